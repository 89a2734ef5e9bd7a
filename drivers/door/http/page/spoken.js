// What of an instruction is being said, while it is emitted; the rule of syscalls/spoken.py.

const SPOKEN = new RegExp(
  '^\\s*\\{\\s*"op"\\s*:\\s*"send_message"\\s*,\\s*"text"\\s*:\\s*"' +
  '((?:[^"\\\\]|\\\\["\\\\/bfnrt]|\\\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|' +
  '\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2})*)');

/** "" for a syscall that says nothing. Of a process whose mask has nothing else, `onlySpeaks`. */
export function spoken(raw, encoding, onlySpeaks) {
  if (encoding === "prose" && (onlySpeaks || !raw.startsWith("!"))) return raw.trim();
  const found = SPOKEN.exec(encoding === "prose" ? raw.replace(/^!/, "") : raw);
  if (!found) return "";
  try {
    return JSON.parse(`"${found[1].replace(/[\u0000-\u001f]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`)}"`);
  } catch {
    return "";
  }
}
