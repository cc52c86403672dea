// Filters the samples and shows them a page at a time. Reads the page, writes no markup.
(() => {
  "use strict";
  const PAGE = 20;
  const bar = document.getElementById("filters");
  if (!bar) return;
  const text = document.getElementById("filter-text");
  const task = document.getElementById("filter-task");
  const count = document.getElementById("filter-count");
  const more = document.getElementById("more");
  const buttons = [...bar.querySelectorAll("button[data-kind]")];
  const samples = [...document.querySelectorAll(".sample")].map((element) => ({
    element,
    kind: element.dataset.kind,
    task: element.dataset.task,
    words: null,
  }));
  let kind = "";
  let shown = PAGE;

  function isAsked(sample, words) {
    if (kind && sample.kind !== kind) return false;
    if (task.value && sample.task !== task.value) return false;
    if (!words) return true;
    sample.words ??= sample.element.textContent.toLowerCase();
    return sample.words.includes(words);
  }

  function update() {
    const words = text.value.trim().toLowerCase();
    let found = 0;
    for (const sample of samples) {
      const isFound = isAsked(sample, words);
      found += isFound;
      sample.element.hidden = !isFound || found > shown;
    }
    count.textContent = `${Math.min(found, shown)} of ${found}`;
    more.hidden = found <= shown;
  }

  function restart() {
    shown = PAGE;
    update();
  }

  text.addEventListener("input", restart);
  task.addEventListener("change", restart);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      kind = button.dataset.kind;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      restart();
    });
  }
  more.addEventListener("click", () => {
    shown += PAGE;
    update();
  });
  bar.hidden = false;
  update();
})();
