"use strict";
// The page is whole without this: it opens what an address names, and what shall be printed.
const open = (node) => { for (let at = node; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true; };
const go = () => {
  const node = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!node) return;
  open(node);
  node.scrollIntoView();
  const summary = node.querySelector("summary");
  if (summary) summary.focus({ preventScroll: true });
};
addEventListener("hashchange", go);
go();
addEventListener("beforeprint", () => {
  const all = document.querySelectorAll("details.generation");
  for (const node of all) if (all.length <= 60 || node.dataset.kept === "yes") open(node);
});
for (const button of document.querySelectorAll("button[data-open]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    for (const node of document.querySelectorAll("details.generation")) node.open = button.dataset.open === "yes";
  });
}
