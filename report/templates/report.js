/* Filters, order, pages and the CSV of a run's posts. Every change of `state` draws the page again. */
const PAGE = 20; // posts drawn at once: few enough to appear without delay
const by = (id) => document.getElementById(id);
const noFilters = () => ({ kinds: new Set(), types: new Set(), own: false, image: "", order: "", query: "", id: null, page: 0 });
let state = { ...noFilters(), split: "" };
const splits = [...new Set([...document.querySelectorAll("[data-split]")].map((node) => node.dataset.split))];

for (const post of data.posts) {
  post.searchText = `${post.id} ${post.words.join(" ")}`.toLowerCase();
  post.wrong = post.outcomes.filter(([kind]) => data.kinds[kind].name !== "correct").length;
}

/* The gold and the predicted type; with `own` only the type under which the table counts it (gold if there is one). */
function outcomeTypes(post, outcome, own = false) {
  const types = entitiesOf(post, outcome).filter((entity) => entity !== null).map((entity) => entity[2]);
  return own ? types.slice(0, 1) : types;
}
function matchesOutcome(post) {
  if (!state.kinds.size && !state.types.size) return true;
  if (post.gold === null) return !state.kinds.size && post.predicted.some((entity) => state.types.has(entity[2]));
  return post.outcomes.some(
    (outcome) =>
      (!state.kinds.size || state.kinds.has(outcome[0])) &&
      (!state.types.size || outcomeTypes(post, outcome, state.own).some((type) => state.types.has(type))),
  );
}
function matchesImage(post) {
  const states = post.images.map((image) => image.state);
  if (state.image === "ok") return states.includes("ok");
  if (state.image === "none") return !states.includes("ok");
  if (state.image === "lost") return states.some((name) => name !== "ok");
  if (state.image === "boxes") return post.boxes.some((box) => box[1] >= 0);
  return true;
}
function matches(post) {
  if (post.split !== state.split) return false;
  if (state.id !== null) return post.id === state.id;
  return matchesOutcome(post) && matchesImage(post) && (!state.query || post.searchText.includes(state.query));
}

/* Confidences of all or only the wrong predictions. In the orders below, posts without any come last. */
function confidence(post, onlyWrong) {
  const wrong = new Set(post.outcomes.filter(([kind]) => data.kinds[kind].name !== "correct").map(([, , predicted]) => predicted));
  return post.predicted.filter((entity, at) => entity[3] !== null && (!onlyWrong || wrong.has(at))).map((entity) => entity[3]);
}
const ORDERS = {
  wrong: (post) => -post.wrong,
  least: (post) => Math.min(2, ...confidence(post, false)),
  most: (post) => -Math.max(-1, ...confidence(post, true)),
};
function selected() {
  const posts = data.posts.filter(matches);
  const rank = ORDERS[state.order];
  if (!rank) return posts;
  return posts.map((post) => [rank(post), post]).sort(([a], [b]) => a - b).map(([, post]) => post);
}

function render() {
  const posts = selected();
  const pages = Math.max(1, Math.ceil(posts.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const shown = posts.slice(state.page * PAGE, (state.page + 1) * PAGE);
  by("cards").replaceChildren(...(shown.length ? shown.map(card) : [emptyNote()]));
  by("count").textContent = `${posts.length.toLocaleString("en")} of ${total().toLocaleString("en")} posts on this page`;
  by("page").textContent = `Page ${state.page + 1} of ${pages}`;
  by("pages").hidden = pages < 2;
  by("previous").disabled = state.page === 0;
  by("next").disabled = state.page === pages - 1;
  by("reset").disabled = !(state.kinds.size || state.types.size || state.image || state.order || state.query || state.id !== null);
  updateControls();
}
function emptyNote() {
  return make("p", { class: "empty" }, "No post matches these filters.");
}
function total() {
  return data.posts.filter((post) => post.split === state.split).length;
}
function updateControls() {
  for (const button of document.querySelectorAll("#kinds button")) button.setAttribute("aria-pressed", state.kinds.has(Number(button.dataset.at)));
  for (const button of document.querySelectorAll("#types button")) button.setAttribute("aria-pressed", state.types.has(Number(button.dataset.at)));
  for (const button of document.querySelectorAll("#splits button")) button.setAttribute("aria-pressed", button.dataset.name === state.split);
  for (const node of document.querySelectorAll(".split[data-split]")) node.hidden = node.dataset.split !== state.split;
  if (by("query").value.toLowerCase() !== state.query) by("query").value = state.query;
  by("image").value = state.image;
  by("order").value = state.order;
}
function change(changes) {
  state = { ...state, id: null, page: 0, ...changes };
  render();
}

/* Numbers on the buttons: outcomes in the selected split. */
function toggles() {
  const posts = data.posts.filter((post) => post.split === state.split);
  const outcomes = posts.flatMap((post) => post.outcomes);
  const kinds = data.kinds.map((kind, at) => toggle("kinds", at, `kind k-${kind.name}`, `${SIGNS[kind.name]} ${kind.title}`, outcomes.filter(([outcomeKind]) => outcomeKind === at).length));
  const typesOf = (post) => (post.gold === null ? post.predicted.map(([, , type]) => [type]) : post.outcomes.map((outcome) => outcomeTypes(post, outcome)));
  const typesOfOutcomes = posts.flatMap(typesOf);
  const types = data.types.map((name, at) => toggle("types", at, `type ${hue(at)}`, name, typesOfOutcomes.filter((names) => names.includes(at)).length));
  by("kinds").replaceChildren(...(outcomes.length ? kinds : []));
  by("types").replaceChildren(...types);
}
function toggle(group, at, css, text, n) {
  const button = make("button", { type: "button", class: `toggle ${css}`, "data-at": at, "aria-pressed": "false" }, make("span", { class: "name" }, text), make("span", { class: "n" }, n.toLocaleString("en")));
  button.addEventListener("click", () => {
    const set = new Set(state[group]);
    if (!set.delete(at)) set.add(at);
    change({ [group]: set, own: false });
  });
  return button;
}
function choose(split) {
  state.split = split;
  toggles();
  change({ kinds: new Set(), types: new Set() });
}

/* The shown posts as CSV. As in `fmit export`, no cell is a formula. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^\s*[=+\-@|%＝＋－＠]/.test(value) ? `'${value}` : value;
  return `"${text.replaceAll('"', '""')}"`;
}
function csv(posts) {
  const head = ["split", "post", "kind", "gold_type", "gold_text", "predicted_type", "predicted_text", "confidence"];
  const text = (post, entity) => (entity ? [data.types[entity[2]], post.words.slice(entity[0], entity[1]).join(" ")] : [null, null]);
  const rows = posts.flatMap((post) =>
    (post.gold === null ? post.predicted.map((entity, at) => [null, null, at]) : post.outcomes).map((outcome) => {
      const [gold, predicted] = entitiesOf(post, outcome);
      const kind = outcome[0] === null ? "no gold labels" : data.kinds[outcome[0]].name;
      return [post.split, post.id, kind, ...text(post, gold), ...text(post, predicted), predicted && predicted[3]];
    }),
  );
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
function download() {
  const url = URL.createObjectURL(new Blob([csv(selected())], { type: "text/csv" }));
  make("a", { href: url, download: "posts.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function turnPage(step) {
  state.page += step;
  render();
  by("posts").scrollIntoView();
  by("posts").focus({ preventScroll: true });
}
function openLinkedPost() {
  if (!location.hash.startsWith("#post=")) return;
  let id = null;
  try {
    id = decodeURIComponent(location.hash.slice(6));
  } catch {
    return; // an invalid escape in the address
  }
  const linked = data.posts.filter((post) => post.id === id);
  const post = linked.find((candidate) => candidate.split === state.split) || linked[0];
  if (!post) return;
  if (post.split !== state.split) choose(post.split);
  change({ ...noFilters(), id });
  by("posts").scrollIntoView();
}

function start() {
  for (const name of splits) {
    const button = make("button", { type: "button", "data-name": name, "aria-pressed": "false" }, name);
    button.addEventListener("click", () => choose(name));
    if (splits.length > 1) by("splits").append(button);
  }
  by("filters").hidden = false;
  by("legend").hidden = false;
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("query").addEventListener("input", (event) => change({ query: event.target.value.toLowerCase() }));
  by("image").addEventListener("change", (event) => change({ image: event.target.value }));
  by("order").addEventListener("change", (event) => change({ order: event.target.value }));
  by("reset").addEventListener("click", () => change(noFilters()));
  by("download").addEventListener("click", download);
  by("previous").addEventListener("click", () => turnPage(-1));
  by("next").addEventListener("click", () => turnPage(1));
  for (const button of document.querySelectorAll("button.cell")) {
    button.addEventListener("click", () => {
      change({ ...noFilters(), own: true, kinds: new Set([Number(button.dataset.kind)]), types: new Set([Number(button.dataset.type)]) });
      by("posts").scrollIntoView();
    });
  }
  addEventListener("hashchange", openLinkedPost);
  choose(splits[0] || "");
  openLinkedPost();
}
start();
