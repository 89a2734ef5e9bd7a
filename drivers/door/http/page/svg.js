// Elements of a picture.

/** An SVG element with attributes. */
export function svg(tag, set = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(set)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** What a pointer that rests on it is told. */
export const says = (text) => {
  const made = svg("title");
  made.textContent = text;
  return made;
};
