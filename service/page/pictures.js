// Small pictures of moments; a place where there is none stays empty.

import { address } from "./api.js";
import { h } from "./dom.js";

/** The picture at an address of the service; nothing where there is no address. */
export function picture(url, more = "") {
  if (!url) return null;
  // What it shows is said in words beside it.
  const image = h("img", { class: `thumb ${more}`, src: address(url), alt: "", loading: "lazy", decoding: "async", onerror: () => image.classList.add("none") });
  return image;
}

/** The address of a stream's picture at a moment; null where there is none. */
export function pictureUrl(stream, time) {
  if (!stream?.thumbnail) return null;
  return `${stream.thumbnail}${stream.thumbnail.includes("?") ? "&" : "?"}time=${time.toFixed(2)}`;
}
