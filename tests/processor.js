// Perfetto's trace processor, as its user interface ships it, with its RPC stream on stdin and stdout.
// node processor.js FOLDER: the folder that has engine_bundle.js and trace_processor.wasm.
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const node = process;
const folder = node.argv[2];
const read = (name) => new Uint8Array(fs.readFileSync(path.join(folder, path.basename(name))));

// It is built for a browser's worker, and stops where it sees anything else.
globalThis.process = undefined;
globalThis.self = globalThis;
globalThis.location = { href: "file:///engine_bundle.js" };
globalThis.WorkerGlobalScope = class {};
globalThis.importScripts = () => {};
globalThis.XMLHttpRequest = class {
  open(_, name) { this.name = name; }
  send() { this.response = read(this.name).buffer; }
};
console.log = console.warn = console.error;
vm.runInThisContext(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"));

const port = { postMessage: (bytes) => fs.writeSync(1, bytes) };
globalThis.onmessage({ data: port });
setTimeout(() => {  // the module is ready at the end of this turn of the loop
  node.stdin.on("data", (data) => port.onmessage({ data: new Uint8Array(data) }));
  node.stdin.on("end", () => node.exit(0));
}, 0);
