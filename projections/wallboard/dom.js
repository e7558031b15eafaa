// Text from callers is hostile: everything shown becomes textContent, and only http and https become links.

export const $ = (id) => document.getElementById(id);

export function element(name, className, parent, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function attribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Keyed children: what is there is changed, so nothing flickers and the focus stays.
export function fill(parent, items, key, make, update) {
  const held = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = held.get(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    held.delete(name);
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of held.values()) child.remove();
}

export function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

export function linkRecording(cell, url, word) {
  const href = url ? webAddress(url) : null;
  const held = cell.firstElementChild;
  if (held && held.href === href) return put(held, word);
  cell.replaceChildren();
  if (!href) return;
  const link = element("a", "recording", cell, word);
  link.href = href;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
}
