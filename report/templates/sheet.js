function cellOf(post) {
  const node = make("article", { class: "card" });
  const words = make("p", { class: "words plain", dir: "auto" }, ...post.words.map((word, at) => make("span", { class: "word", "data-word": at }, make("span", { class: "text" }, `${word} `))));
  node.append(heading(post), ...post.images.map((image, index) => frame(post, image, index)), words, phrases(post));
  link(node, post);
  return node;
}
document.getElementById("cards").append(...data.posts.map(cellOf));
