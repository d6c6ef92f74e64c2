"use strict";
(() => {
  const form = document.getElementById("filters");
  const sections = [...document.querySelectorAll("section.table")];
  const claims = [...document.querySelectorAll(".claim")];
  const cells = sections.map((section) => [...section.querySelectorAll("td.c")]);
  const total = cells.reduce((sum, some) => sum + some.length, 0);
  const matches = document.getElementById("matches");
  const nothing = document.getElementById("nothing");

  const read = () => ({
    verdicts: new Set([...form.querySelectorAll("input:checked")].map((box) => box.value)),
    table: form.elements.table.value,
    words: form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean),
  });

  // Cells that do not match stay, faint, in rows where another does: a table keeps its shape.
  const apply = () => {
    const wanted = read();
    const active = wanted.verdicts.size > 0 || wanted.words.length > 0;
    let shown = 0;
    sections.forEach((section, index) => {
      let here = 0;
      for (const cell of cells[index]) {
        const words = section.dataset.words + " " + cell.dataset.words;
        const match =
          (!wanted.verdicts.size || cell.dataset.v.split(" ").some((slug) => wanted.verdicts.has(slug))) &&
          wanted.words.every((word) => words.includes(word));
        cell.classList.toggle("off", !match);
        here += match;
      }
      for (const row of section.querySelectorAll(".paper tbody tr:not(.group)")) {
        row.hidden = active && !row.querySelector("td.c:not(.off)");
      }
      for (const body of section.querySelectorAll(".paper tbody")) {
        body.hidden = active && !body.querySelector("tr:not(.group):not([hidden])");
      }
      section.hidden = (wanted.table !== "" && wanted.table !== section.dataset.table) || (active && !here);
      shown += section.hidden ? 0 : here;
    });
    for (const claim of claims) {
      claim.hidden = !wanted.words.every((word) => claim.dataset.words.includes(word));
    }
    const filtered = active || wanted.table !== "";
    matches.textContent = filtered ? `${shown} of ${total} places` : `${total} places`;
    nothing.hidden = !filtered || shown > 0;
  };

  const drop = () => {
    for (const box of form.querySelectorAll("input:checked")) box.checked = false;
    form.elements.table.value = "";
    form.elements.text.value = "";
    apply();
  };

  // The address keeps what is shown: #table9&verdict=below,unstable&text=kd. The part without "=" is a place.
  const parse = () => {
    const found = { place: "", verdict: "", table: "", text: "" };
    for (const part of location.hash.slice(1).split("&")) {
      const at = part.indexOf("=");
      const name = at < 0 ? "place" : part.slice(0, at);
      if (name in found) {
        try {
          found[name] = decodeURIComponent(part.slice(at + 1));
        } catch {
          found[name] = "";
        }
      }
    }
    return found;
  };
  const address = (place) => {
    const wanted = read();
    const parts = [place];
    if (wanted.verdicts.size) parts.push("verdict=" + [...wanted.verdicts].map(encodeURIComponent).join(","));
    if (wanted.table) parts.push("table=" + encodeURIComponent(wanted.table));
    if (wanted.words.length) parts.push("text=" + encodeURIComponent(wanted.words.join(" ")));
    return "#" + parts.filter(Boolean).join("&");
  };
  const remember = (place) => {
    const next = address(place);
    if (next !== (location.hash || "#")) history.replaceState(null, "", next);
  };

  const reveal = (place) => {
    const element = place && document.getElementById(place);
    if (!element) return;
    if (element.matches("[popover]")) {
      document.querySelector(`[popovertarget="${CSS.escape(place)}"]`)?.scrollIntoView({ block: "center" });
      if (!element.matches(":popover-open")) element.showPopover();
    } else {
      if (element.matches("details")) element.open = true;
      element.scrollIntoView();
    }
  };
  const restore = () => {
    const found = parse();
    const verdicts = new Set(found.verdict.split(","));
    for (const box of form.querySelectorAll("input[type=checkbox]")) box.checked = verdicts.has(box.value);
    form.elements.table.value = found.table;
    if (form.elements.table.selectedIndex < 0) form.elements.table.value = "";
    form.elements.text.value = found.text;
    apply();
    reveal(found.place);
  };

  form.hidden = false;
  // What a link leads to must not end up under the bar.
  const room = () => document.documentElement.style.setProperty("--bar", `${form.offsetHeight}px`);
  new ResizeObserver(room).observe(form);
  room();
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    apply();
    remember("");
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    drop();
    remember("");
  });
  document.getElementById("clear").addEventListener("click", () => form.reset());
  window.addEventListener("hashchange", restore);
  // A link to a place of this page must not lose the filters; one to a table that they hide drops them.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    event.preventDefault();
    const place = link.getAttribute("href").slice(1);
    const target = document.getElementById(place);
    if (target?.closest("[hidden]")) drop();
    history.pushState(null, "", address(place));
    reveal(place);
  });
  document.addEventListener(
    "toggle",
    (event) => {
      if (!event.target.matches("[popover]")) return;
      const opened = event.newState === "open";
      if (opened) event.target.focus({ preventScroll: true });
      remember(opened ? event.target.id : "");
    },
    true,
  );
  restore();
})();
