"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const run = document.body.dataset.run;
  const feed = $("feed");
  const pause = $("pause");
  const AGAIN_MS = 5000;
  let paused = false;
  let kept = {};
  let source;

  // --- changes that leave alone what has not changed: focus, scroll, open details
  const key = (node) => node.dataset?.key;
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && !key(a) && !key(b);
  const morph = (have, next) => {
    if (have.nodeType !== Node.ELEMENT_NODE) {
      if (have.nodeValue !== next.nodeValue) have.nodeValue = next.nodeValue;
      return;
    }
    for (const { name, value } of next.attributes)
      if (name !== "open" && have.getAttribute(name) !== value) have.setAttribute(name, value);
    for (const { name } of [...have.attributes])
      if (name !== "open" && name !== "aria-current" && !next.hasAttribute(name))
        have.removeAttribute(name);
    fill(have, next);
  };
  const fill = (parent, content) => {
    const known = new Map();
    for (const child of parent.children) if (key(child)) known.set(key(child), child);
    let at = parent.firstChild;
    for (const next of [...content.childNodes]) {
      let have = null;
      if (key(next)) have = known.get(key(next)) ?? null;
      else if (at && alike(at, next)) have = at;
      if (!have) {
        parent.insertBefore(next, at);
        continue;
      }
      if (have === at) at = at.nextSibling;
      else parent.insertBefore(have, at);
      morph(have, next);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  // --- what the server sends
  const show = (sections) => {
    for (const [name, html] of Object.entries(sections)) {
      const section = $(`s-${name}`);
      if (!section) continue;
      const template = document.createElement("template");
      template.innerHTML = html;
      fill(section, template.content);
    }
    mark();
  };
  const mark = () => {
    for (const row of document.querySelectorAll(".jobs tbody tr"))
      if (row.dataset.key === run) row.setAttribute("aria-current", "true");
  };
  const say = (words, lost) => {
    if (feed.textContent !== words) feed.textContent = words;
    feed.className = lost ? "lost" : "";
  };
  const connect = () => {
    source = new EventSource(`events?run=${encodeURIComponent(run)}`);
    source.addEventListener("sections", (event) => {
      const sections = JSON.parse(event.data);
      if (paused) Object.assign(kept, sections);
      else show(sections);
    });
    source.onopen = () => say(paused ? "paused" : "live", false);
    source.onerror = () => {
      say("connection lost, trying again", true);
      // A refused connection is closed for good: this one is not given up.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
    };
  };
  const setPaused = (value) => {
    paused = value;
    pause.setAttribute("aria-pressed", String(value));
    say(value ? "paused" : "live", false);
    if (!value) {
      show(kept);
      kept = {};
    }
  };

  // --- keyboard
  const move = (step) => {
    const rows = [...document.querySelectorAll(".row")];
    const at = rows.indexOf(document.activeElement.closest(".row"));
    rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step]?.focus();
  };
  const KEYS = { j: () => move(1), k: () => move(-1), p: () => setPaused(!paused) };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  pause.hidden = false;
  pause.addEventListener("click", () => setPaused(!paused));
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
  mark();
  connect();
})();
