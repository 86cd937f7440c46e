"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const list = $("list");
  if (!list) return;
  const data = (id) => JSON.parse($(id).textContent);
  const { rows: index, rowsABlock } = data("index");
  const PAGE = 25;
  const MOST_WORDS = 320;
  const blocks = new Map();
  const controls = { q: $("find"), c: $("category"), o: $("outcome"), s: $("sort") };

  // Blocks are read when one of their rows is first wanted.
  const row = (n) => {
    const number = Math.floor(n / rowsABlock);
    if (!blocks.has(number)) blocks.set(number, data(`rows-${number}`));
    return blocks.get(number)[n % rowsABlock];
  };

  let texts = null;
  const text = (n) => {
    if (!texts) {
      texts = index.map((_, i) => {
        const r = row(i);
        const said = r.v.map((v) => `${v.w} ${v.x || ""}`);
        return [r.id, r.m, r.q, ...r.a.map((a) => a[2]), ...said].join("\n").toLowerCase();
      });
    }
    return texts[n];
  };

  const el = (tag, className, content, attributes = {}) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (content !== undefined && content !== null) made.append(...[content].flat());
    return made;
  };
  const words = (tag, className, content) => el(tag, className, content, { dir: "auto" });
  const score = (value) => String(Math.round(value * 10) / 10);

  // --- what is shown: the state lies in the address, so that any view can be linked to
  let state = { q: "", c: "", o: "", s: "", page: 1, row: "" };
  let found = [];

  const fromAddress = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    const next = {};
    for (const key of ["q", "c", "o", "s", "row"]) next[key] = given.get(key) || "";
    next.page = Math.max(1, parseInt(given.get("page"), 10) || 1);
    return next;
  };
  const address = (of) => {
    const parts = new URLSearchParams();
    for (const [key, value] of Object.entries(of)) {
      if (value && !(key === "page" && value === 1)) parts.set(key, value);
    }
    return `#${parts}`;
  };
  const go = (change) => {
    state = { ...state, ...change };
    history.replaceState(null, "", address(state) === "#" ? location.pathname : address(state));
    show();
  };

  const ORDERS = {
    worst: (a, b) => a[4] - b[4],
    best: (a, b) => b[4] - a[4],
    unsure: (a, b) => b[3] - a[3],
  };
  const select = () => {
    const wanted = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const keep = (n) => {
      const [id, category, outcome, disagree, , lacks] = index[n];
      if (state.row && id !== state.row) return false;
      if (state.c && category !== state.c) return false;
      if (state.o === "disagree" ? !disagree : state.o && outcome !== state.o && lacks !== state.o)
        return false;
      return wanted.every((word) => text(n).includes(word));
    };
    found = [...index.keys()].filter(keep);
    const order = ORDERS[state.s];
    if (order) {
      const last = (n) => (index[n][4] === null ? 1 : 0);
      found.sort((a, b) => last(a) - last(b) || order(index[a], index[b]) || a - b);
    }
  };

  // --- one question
  const spoken = (content) => {
    if (content.length <= MOST_WORDS) return words("p", "words", content);
    const head = words("span", "", `${content.slice(0, 200)}…`);
    return el("details", "words", [el("summary", "", head), words("p", "", content)]);
  };
  const answer = ([name, side, said, mean], r) => {
    const made = el("div", `answer side-${side}`);
    if (r.a.length > 1) {
      const label = words("p", "label", words("span", "", name));
      if (side === 2 && r.o) label.append(" ", el("span", `outcome ${r.o}`, r.o));
      made.append(label);
    }
    if (mean !== null) made.append(el("p", "mean", score(mean)));
    if (said === null) made.append(el("p", "missing", "no answer"));
    else if (!said.trim()) made.append(el("p", "missing", "an empty answer"));
    else made.append(words("p", "text", said));
    return made;
  };
  const verdict = (v) => {
    const label = el("p", "label", v.o);
    if (v.f) label.append(", ", words("span", "", v.f), v.o === "alone" ? "" : " first");
    if (v.s.length) {
      const pair = el("b", "pair");
      v.s.forEach(([side, value], i) =>
        pair.append(i ? " : " : "", el("span", `p${side}`, score(value))));
      label.append(" ", pair);
    }
    const made = el("div", "verdict", label);
    if (v.x) made.append(words("p", "failure", v.x));
    if (v.w) made.append(spoken(v.w));
    return made;
  };
  const media = (name) => {
    const made = [words("p", "media", name)];
    const kept = document.querySelector(`script[data-media="${CSS.escape(name)}"]`);
    if (!kept) return [...made, el("p", "aside", "no frames were kept of it")];
    const strip = el("div", "strip", null,
      { tabindex: "0", role: "group", "aria-label": `Frames of ${name}` });
    strip.append(el("img", "", null, {
      src: JSON.parse(kept.textContent),
      alt: `The frames of ${name} that the model saw, in order`,
    }));
    return [...made, strip];
  };
  const question = (n) => {
    const r = row(n);
    const label = el("p", "label");
    if (r.c !== null) label.append(words("span", "", r.c), " · ");
    label.append(el("a", "link", r.id, { href: address({ row: r.id }), dir: "auto" }));
    if (r.d) label.append(" · ", el("span", "doubt", "the orders disagree"));
    const made = el("section", "row", [label, words("h3", "question", r.q)],
      { tabindex: "-1", "data-row": r.id, "aria-label": `Question ${r.id}` });
    made.append(el("div", `answers answers-${Math.min(2, r.a.length)}`,
      r.a.map((a) => answer(a, r))));
    if (r.v.length) made.append(el("div", "verdicts", r.v.map(verdict)));
    return made;
  };
  // Neighbours about one video stand under its frames together.
  const cards = (shown) => {
    const made = [];
    let last;
    for (const n of shown) {
      const name = row(n).m;
      if (!made.length || name === null || name !== last) {
        made.push(el("article", "clip", name === null ? null : media(name)));
        last = name;
      }
      made[made.length - 1].append(question(n));
    }
    return made;
  };

  // --- the page
  const show = () => {
    for (const [key, control] of Object.entries(controls)) {
      if (control && control.value !== state[key]) control.value = state[key];
    }
    select();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(state.page, pages);
    const first = (state.page - 1) * PAGE;
    const shown = found.slice(first, first + PAGE);
    list.replaceChildren(...cards(shown));
    const total = index.length;
    $("count").textContent = shown.length
      ? `${first + 1} to ${first + shown.length} of ${found.length}` +
        (found.length < total ? `, out of ${total}` : "")
      : "nothing matches";
    for (const pager of document.querySelectorAll(".pager")) pager.hidden = pages < 2;
    for (const name of document.querySelectorAll(".page-number"))
      name.textContent = `page ${state.page} of ${pages}`;
    for (const button of document.querySelectorAll("button[data-step]")) {
      const to = state.page + Number(button.dataset.step);
      button.disabled = to < 1 || to > pages;
    }
    $("all").hidden = !(state.q || state.c || state.o || state.s || state.row);
  };
  const turn = (step) => {
    const pages = Math.ceil(found.length / PAGE);
    const to = state.page + step;
    if (to < 1 || to > pages) return;
    go({ page: to });
    $("rows").scrollIntoView();
  };
  const move = (step) => {
    const shown = [...list.querySelectorAll(".row")];
    const at = shown.indexOf(document.activeElement.closest(".row"));
    const next = shown[at < 0 ? (step > 0 ? 0 : shown.length - 1) : at + step];
    if (next) next.focus();
    else turn(step);
  };

  let waiting = 0;
  controls.q.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go({ q: controls.q.value, page: 1, row: "" }), 120);
  });
  for (const key of ["c", "o", "s"]) {
    if (controls[key])
      controls[key].addEventListener("change", () => {
        go({ [key]: controls[key].value, page: 1, row: "" });
      });
  }
  $("all").addEventListener("click", () => go({ q: "", c: "", o: "", s: "", row: "", page: 1 }));
  for (const button of document.querySelectorAll("button[data-step]"))
    button.addEventListener("click", () => turn(Number(button.dataset.step)));
  addEventListener("hashchange", () => {
    state = fromAddress();
    show();
    if (state.row) $("rows").scrollIntoView();
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    const act = {
      "/": () => controls.q.focus(),
      j: () => move(1),
      k: () => move(-1),
      n: () => turn(1),
      p: () => turn(-1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  state = fromAddress();
  show();
  if (state.row) $("rows").scrollIntoView();
})();
