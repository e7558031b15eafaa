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

// Keyed children: what is there is changed, so nothing flickers and the focus stays. Who is gone leaves first: a child
// that is put elsewhere loses the focus, and those after one that is gone would be.
export function fill(parent, items, key, make, update) {
  const wanted = new Set(items.map(key));
  for (const child of [...parent.children]) if (!wanted.has(child.dataset.key)) child.remove();
  const held = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = held.get(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}

export function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

// A picture that says the same as its word, which only screen readers are told.
export function icon(parent, name, word) {
  const picture = element("span", "icon", parent);
  attribute(picture, "aria-hidden", "true");
  element("span", "hidden", parent);
  showIcon(parent, name, word);
}

export function showIcon(parent, name, word) {
  const [picture, told] = parent.children;
  attribute(picture, "data-icon", name);
  put(told, word);
  attribute(parent, "title", word);
}

export function linkRecording(cell, url, word) {
  const href = url ? webAddress(url) : null;
  let link = cell.firstElementChild;
  if (!href) return cell.replaceChildren();
  if (!link) {
    link = element("a", "recording", cell);
    icon(link, "listen", word);
    link.rel = "noopener noreferrer";
    link.target = "_blank";
  }
  showIcon(link, "listen", word);
  if (link.href !== href) link.href = href;
}
