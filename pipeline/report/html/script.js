// Filters lists of samples and shows them a page at a time. Reads the page, writes no markup.
(() => {
  "use strict";
  const PAGE = 20;

  function browse(root) {
    const bar = root.querySelector(".filters");
    const text = bar.querySelector("input");
    const count = bar.querySelector("output");
    const more = root.querySelector(".more");
    const selects = [...bar.querySelectorAll("select[data-key]")];
    const buttons = [...bar.querySelectorAll("button[data-kind]")];
    const samples = [...root.querySelectorAll(".sample")].map((element) => ({
      element,
      words: null,
    }));
    let kind = "";
    let shown = PAGE;

    // An attribute may hold several names, as a class does; "" is asked by a choice of all.
    const has = (sample, key, name) =>
      !name || sample.element.dataset[key].split(" ").includes(name);

    function isAsked(sample, words) {
      if (!has(sample, "kind", kind)) return false;
      if (!selects.every((select) => has(sample, select.dataset.key, select.value))) return false;
      if (!words) return true;
      sample.words ??= sample.element.textContent.toLowerCase();
      return sample.words.includes(words);
    }

    // Of a sample that has several answers, those that a choice is about.
    function showParts({ dataset: { key }, value }) {
      for (const part of root.querySelectorAll(`.sample [data-${key}]`)) {
        part.hidden = value && part.dataset[key] !== value;
      }
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
    for (const select of selects) {
      select.addEventListener("change", () => {
        showParts(select);
        restart();
      });
    }
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
  }

  // A link to a folded section opens it; so does printing, for all but the long lists.
  function open(id) {
    const section = document.getElementById(id);
    const fold = section?.matches("details") ? section : section?.querySelector(":scope > details");
    if (fold) fold.open = true;
    section?.scrollIntoView();
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    link.addEventListener("click", () => open(link.hash.slice(1)));
  }
  if (location.hash) open(location.hash.slice(1));
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details.fold")) fold.open = true;
  });

  // A table that goes on to the right says so.
  function hint(box) {
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.classList.toggle("goes-on", left > 8);
  }
  for (const box of document.querySelectorAll(".scroll")) {
    new ResizeObserver(() => hint(box)).observe(box);
    box.addEventListener("scroll", () => hint(box), { passive: true });
  }

  for (const root of document.querySelectorAll("[data-browse]")) browse(root);
})();
