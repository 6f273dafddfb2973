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
    let left = 0;
    for (const card of cards) {
      const fits = wanted.every(([name, value]) => card[name] === value)
        && words.every(word => card.text.includes(word));
      if (card.item.hidden === fits) card.item.hidden = !fits;
      left += fits;
    }
    one(".none").hidden = left > 0;
    one("[role=status]").textContent = `${left} of ${cards.length} jobs shown`;
  };

  one(".tools").addEventListener("input", filter);
  filter();
})();
