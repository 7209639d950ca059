"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const rows = Array.from(document.querySelectorAll("#proposals > details"));
  const said = document.getElementById("said");
  form.hidden = false;
  const apply = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const from = wanted.from === "" ? -Infinity : Number(wanted.from);
    const to = wanted.to === "" ? Infinity : Number(wanted.to);
    let count = 0;
    for (const row of rows) {
      const d = row.dataset, step = Number(d.step);
      const ok = ["type", "verdict", "reason", "run"].every((n) => !wanted[n] || wanted[n] === d[n]) && step >= from && step <= to;
      row.hidden = !ok;
      count += ok;
    }
    said.textContent = count + " of " + rows.length;
  };
  const show = (id) => {
    const target = document.getElementById(id);
    if (!target) return false;
    if (target.hidden) { form.reset(); apply(); }
    target.open = true;
    target.scrollIntoView();
    return true;
  };
  for (const kind of ["input", "change"]) form.addEventListener(kind, apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && show(link.getAttribute("href").slice(1)) && location.protocol === "about:") event.preventDefault();
  });
  apply();
})();
