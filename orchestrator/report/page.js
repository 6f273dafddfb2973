"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const cards = [...document.querySelectorAll(".card")].map(item => ({
    item,
    state: item.classList[1],
    provider: item.dataset.provider,
    account: item.dataset.account,
    text: ["h3", ".blank p", ".note", ".more"]
      .map(part => one(part, item)?.textContent ?? "").join(" ").toLowerCase(),
  }));
  const search = one("[type=search]");
  const chosen = name => one(`[name=${name}]:checked, select[name=${name}]`).value;

  const filter = () => {
    const wanted = ["state", "provider", "account"].map(name => [name, chosen(name)]).filter(([, value]) => value);
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const left = cards.filter(card => wanted.every(([name, value]) => card[name] === value)
      && words.every(word => card.text.includes(word)));
    // Thousands that are hidden one by one cost a browser half a minute.
    one(".cards").replaceChildren(...left.map(card => card.item));
    one(".none").hidden = left.length > 0;
    one("[role=status]").textContent = `${left.length} of ${cards.length} jobs shown`;
  };

  let soon = 0;
  one(".tools").addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(filter, 120);
  });
})();
