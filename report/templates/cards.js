"use strict";
/* Draws posts. Text enters the page only as text nodes; nothing here writes markup. */
const SVG = "http://www.w3.org/2000/svg";
const SIGNS = { correct: "✓", type: "≠", boundary: "↔", both: "✕", missed: "∅", spurious: "+" };
const data = JSON.parse(document.getElementById("data").textContent);

function make(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}
function draw(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}
function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
function percent(value) {
  return value === null ? "" : `${Math.floor(value * 100)}`;
}
function short(name) {
  return name.length > 16 ? `${name.slice(0, 15)}…` : name;
}
function hue(type) {
  return type < 0 ? "neutral" : `t${type % 12}`;
}

/* A phrase has the color of the predicted (else gold) entity that it overlaps, a general word that of its type. */
function boxType(post, box) {
  if (box[3] >= 0 || box[1] < 0) return box[3];
  const entities = post.predicted.length ? post.predicted : post.gold || [];
  const overlapping = entities.find((entity) => entity[0] < box[2] && box[1] < entity[1]);
  return overlapping ? overlapping[2] : -1;
}

function card(post) {
  const node = make("article", { class: "card" });
  const images = post.images.map((image, index) => frame(post, image, index));
  node.append(
    make("div", { class: "media" }, ...(images.length ? images : [make("p", { class: "empty" }, "No image")])),
    make("div", { class: "body" }, heading(post), sentence(post), outcomeList(post), phrases(post)),
  );
  link(node, post);
  return node;
}

function heading(post) {
  const id = make("a", { href: `#post=${encodeURIComponent(post.id)}`, title: "Link to this post" }, post.id);
  return make("h3", {}, id, make("span", { class: "split-name" }, post.split));
}

function frame(post, image, index) {
  const caption = make("figcaption", {}, label(image));
  const figure = make("figure", { class: "image" }, caption);
  figure.dataset.label = caption.textContent;
  if (image.state !== "ok" || !image.width) {
    figure.prepend(make("p", { class: "empty" }, `Image ${image.state === "ok" ? "without a size" : image.state}`));
    return figure;
  }
  const holder = make("div", { class: "frame" });
  holder.style.aspectRatio = `${image.width} / ${image.height}`;
  holder.style.maxWidth = `${Math.max(90, Math.round((300 * image.width) / image.height))}px`;
  if (image.thumbnail !== null) {
    const alt = `Image ${index + 1} of post ${post.id}`;
    holder.append(make("img", { alt, src: data.thumbnails[image.thumbnail], decoding: "async", draggable: "false" }));
  } else {
    holder.append(make("p", { class: "empty" }, data.redacted ? "Image hidden" : "Image left out"));
  }
  holder.append(boxes(post, image, index));
  figure.prepend(holder);
  return figure;
}

function label(image) {
  const size = image.width ? `${image.width} × ${image.height} px` : "";
  return [image.name, size].filter(Boolean).join(" · ") || image.state;
}

/* The drawing's units are the image's pixels, so that boxes are right at any size. Small boxes are on top. */
function boxes(post, image, index) {
  const svg = draw("svg", { viewBox: `0 0 ${image.width} ${image.height}`, preserveAspectRatio: "none" });
  const boxesOfImage = post.boxes.map((box, at) => [at, box]).filter(([, box]) => box[4] === index);
  const area = (box) => (box[7] - box[5]) * (box[8] - box[6]);
  boxesOfImage.sort(([, a], [, b]) => area(b) - area(a));
  for (const [at, box] of boxesOfImage) {
    const place = { x: box[5], y: box[6], width: box[7] - box[5], height: box[8] - box[6] };
    const name = `${hue(boxType(post, box))}${box[1] < 0 ? " general" : ""}`;
    svg.append(draw("rect", { ...place, class: `halo ${name}`, "data-halo": at }));
    svg.append(draw("rect", { ...place, class: name, "data-box": at }, draw("title", {}, box[0])));
  }
  return svg;
}

function sentence(post) {
  const gold = lanes(post, post.gold || [], 1);
  const predicted = lanes(post, post.predicted, 2);
  const plain = !gold.some(Boolean) && !predicted.some(Boolean);
  const line = make("p", { class: plain ? "words plain" : post.predicted.length ? "words" : "words upper", dir: "auto" });
  post.words.forEach((word, at) => {
    const text = make("span", { class: "text" }, `${word} `);
    const column = make("span", { class: "word", "data-word": at });
    if (plain) column.append(text);
    else column.append(lane(gold[at], "gold"), text, lane(predicted[at], "pred"));
    line.append(column);
  });
  return line;
}

/* Per word: the entity that covers it, whether it begins and ends there, and whether it is wrong. */
function lanes(post, entities, side) {
  const parts = new Array(post.words.length);
  entities.forEach((entity, index) => {
    const outcome = post.outcomes.find((candidate) => candidate[side] === index);
    const wrong = outcome !== undefined && data.kinds[outcome[0]].name !== "correct";
    for (let at = entity[0]; at < entity[1]; at += 1) {
      parts[at] = { entity, first: at === entity[0], last: at === entity[1] - 1, wrong };
    }
  });
  parts.forEach((part, at) => {
    part.loose = part.first && !parts[at + 1]?.first; // its label may extend over the next word
  });
  return parts;
}
function lane(part, side) {
  if (!part) return make("span", { class: "lane", "aria-hidden": "true" });
  const [, , type, confidence] = part.entity;
  const name = ["lane", side, hue(type), part.last && "last", part.loose && "loose", part.wrong && "wrong"].filter(Boolean).join(" ");
  const text = part.first ? [short(data.types[type]), confidence === undefined ? "" : percent(confidence)] : [];
  return make("span", { class: name, "aria-hidden": "true" }, text.filter(Boolean).join(" "));
}

/* The gold and the predicted entity of an outcome; null for none. */
function entitiesOf(post, [, gold, predicted]) {
  return [gold === null ? null : post.gold[gold], predicted === null ? null : post.predicted[predicted]];
}

function outcomeList(post) {
  const list = make("ul", { class: "outcomes" });
  for (const outcome of post.outcomes) {
    const item = make("li", {}, badge(outcome[0]));
    const [gold, predicted] = entitiesOf(post, outcome);
    const sameWords = gold && predicted && gold[0] === predicted[0] && gold[1] === predicted[1];
    const same = sameWords && gold[2] === predicted[2];
    if (gold) item.append(entityText(post, gold, !same));
    if (gold && predicted && !same) item.append(make("span", { class: "arrow" }, "predicted as"));
    if (predicted) item.append(sameWords ? tag(predicted) : entityText(post, predicted, true), confidenceText(predicted[3]));
    list.append(item);
  }
  if (!post.outcomes.length) {
    for (const entity of post.gold || []) list.append(make("li", {}, entityText(post, entity, true)));
    for (const entity of post.predicted) list.append(make("li", {}, entityText(post, entity, true), confidenceText(entity[3])));
  }
  return list;
}
function badge(kind) {
  const { name, title, meaning } = data.kinds[kind];
  return make("span", { class: `kind k-${name}`, title: meaning }, `${SIGNS[name]} ${title}`);
}
function tag(entity) {
  return make("span", { class: `type ${hue(entity[2])}` }, data.types[entity[2]]);
}
function entityText(post, entity, withType) {
  const words = post.words.slice(entity[0], entity[1]).join(" ");
  return make("span", { class: "entity" }, make("bdi", {}, words), withType ? tag(entity) : null);
}
function confidenceText(confidence) {
  return confidence === null ? null : make("span", { class: "confidence" }, `${percent(confidence)}%`);
}

function phrases(post) {
  const row = make("div", { class: "phrases" });
  post.boxes.forEach((box, at) => {
    const name = `chip ${hue(boxType(post, box))}${box[1] < 0 ? " general" : ""}`;
    const score = box[9] === null ? null : make("span", { class: "score" }, box[9].toFixed(2));
    row.append(make("button", { type: "button", class: name, "data-box": at, "aria-pressed": "false" }, make("bdi", {}, box[0]), score));
  });
  return row;
}

/* A phrase, its words and its box are highlighted together: by pointer or focus, and pinned by a click. */
function link(node, post) {
  let pinned = -1;
  const boxAt = (target) => {
    const part = target.closest("[data-box], [data-word]");
    if (!part || !node.contains(part)) return -1;
    if (part.dataset.box !== undefined) return Number(part.dataset.box);
    const at = Number(part.dataset.word);
    const covering = post.boxes.map((box, index) => [box[2] - box[1], index, box]).filter(([, , box]) => box[1] <= at && at < box[2]);
    return covering.length ? covering.sort(([a], [b]) => a - b)[0][1] : -1;
  };
  const show = (index) => highlight(node, post, index >= 0 ? index : pinned);
  node.addEventListener("pointerover", (event) => show(boxAt(event.target)));
  node.addEventListener("pointerleave", () => show(-1));
  node.addEventListener("focusin", (event) => show(boxAt(event.target)));
  node.addEventListener("focusout", () => show(-1));
  node.addEventListener("click", (event) => {
    const index = boxAt(event.target);
    if (index < 0) return;
    pinned = pinned === index ? -1 : index;
    for (const chip of node.querySelectorAll(".chip")) chip.setAttribute("aria-pressed", Number(chip.dataset.box) === pinned);
    highlight(node, post, pinned);
  });
}
function highlight(node, post, index) {
  const box = index < 0 ? null : post.boxes[index];
  node.classList.toggle("focused", box !== null);
  for (const part of node.querySelectorAll("[data-box]")) part.classList.toggle("on", Number(part.dataset.box) === index);
  for (const part of node.querySelectorAll("[data-halo]")) part.classList.toggle("on", Number(part.dataset.halo) === index);
  for (const word of node.querySelectorAll("[data-word]")) {
    const at = Number(word.dataset.word);
    word.classList.toggle("on", box !== null && box[1] <= at && at < box[2]);
  }
  node.querySelectorAll("figure.image").forEach((figure, at) => {
    const text = box && box[4] === at ? `“${box[0]}” · x ${box[5]}–${box[7]}, y ${box[6]}–${box[8]} px` : figure.dataset.label;
    figure.querySelector("figcaption").textContent = text;
  });
}
function themeButton() {
  const button = document.getElementById("theme");
  if (!button) return;
  const names = { auto: "automatic", light: "light", dark: "dark" };
  button.hidden = false;
  button.addEventListener("click", () => {
    const order = Object.keys(names);
    const next = order[(order.indexOf(document.documentElement.dataset.theme) + 1) % order.length];
    document.documentElement.dataset.theme = next;
    button.textContent = `Theme: ${names[next]}`;
  });
}
themeButton();
