"use strict";
(() => {
  // Tables: a button in each head sorts the rows.
  const DOWN = "descending", UP = "ascending";
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = head.dataset.first || UP;
        const other = first === UP ? DOWN : UP;
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        sort(table.tBodies[0], column, "first" in head.dataset, order === UP ? 1 : -1);
      });
    });
  }

  function sort(body, column, numbers, sign) {
    const key = (row) => {
      const cell = row.cells[column];
      return numbers ? parseFloat(cell.dataset.value) : cell.textContent;
    };
    const compare = (x, y) => {
      if (!numbers) return sign * x.localeCompare(y, undefined, { numeric: true });
      // What is missing comes last in both orders.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort((x, y) => compare(x[0], y[0]));
    body.append(...rows.map((r) => r[1]));
  }

  // The magnifier: a lens at one place (u, v in 0..1) in all pictures of a scene.
  const LEAST = 3, MOST = 6, PART = 0.62;
  const how = document.getElementById("how");
  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
  let scale = 4, shown = null;

  function lensOf(view) {
    let lens = view.querySelector(".lens");
    if (!lens) {
      lens = document.createElement("canvas");
      lens.className = "lens";
      lens.setAttribute("aria-hidden", "true");
      view.append(lens);
    }
    return lens;
  }

  function draw(view, u, v) {
    const img = view.querySelector("img"), lens = lensOf(view);
    const w = img.clientWidth, h = img.clientHeight;
    lens.hidden = !(img.naturalWidth && w && h);
    if (lens.hidden) return;
    const lw = Math.round(PART * w), lh = Math.round(PART * h);
    lens.style.width = `${lw}px`;
    lens.style.height = `${lh}px`;
    lens.style.left = `${clamp(u * w - lw / 2, 0, w - lw)}px`;
    lens.style.top = `${clamp(v * h - lh / 2, 0, h - lh)}px`;
    const density = window.devicePixelRatio || 1;
    lens.width = Math.max(1, Math.round(lw * density));
    lens.height = Math.max(1, Math.round(lh * density));
    // The part of the picture, in its own pixels.
    const sw = (img.naturalWidth * lw) / w / scale, sh = (img.naturalHeight * lh) / h / scale;
    const x = clamp(u * img.naturalWidth - sw / 2, 0, img.naturalWidth - sw);
    const y = clamp(v * img.naturalHeight - sh / 2, 0, img.naturalHeight - sh);
    const context = lens.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(img, x, y, sw, sh, 0, 0, lens.width, lens.height);
  }

  function show(scene, u, v) {
    if (shown && shown.scene !== scene) hide();
    shown = { scene, u: clamp(u, 0, 1), v: clamp(v, 0, 1) };
    scene.classList.add("on");
    for (const view of scene.querySelectorAll(".view")) draw(view, shown.u, shown.v);
  }

  function hide() {
    if (!shown) return;
    shown.scene.classList.remove("on");
    for (const lens of shown.scene.querySelectorAll(".lens")) lens.hidden = true;
    shown = null;
  }

  function rescale(value) {
    scale = clamp(value, LEAST, MOST);
    how.querySelector("output").textContent = `${+scale.toFixed(1)}×`;
    if (shown) show(shown.scene, shown.u, shown.v);
  }

  function follow(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const u = (event.clientX - box.left) / box.width, v = (event.clientY - box.top) / box.height;
    show(event.currentTarget.closest(".scene"), u, v);
  }

  function onKey(event) {
    if (!shown || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 0.1 : 0.02;
    const moves = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    };
    const move = moves[event.key];
    if (move && event.target.closest(".view")) {
      show(shown.scene, shown.u + move[0], shown.v + move[1]);
    } else if (event.key === "+" || event.key === "=") rescale(scale + 1);
    else if (event.key === "-") rescale(scale - 1);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  }

  if (how) how.hidden = false;
  const scenes = [...document.querySelectorAll(".scene")];
  for (const scene of scenes) {
    // One stop of the Tab key for each scene: all its pictures move together.
    [...scene.querySelectorAll(".view")].forEach((view, i) => {
      view.tabIndex = i === 0 ? 0 : -1;
      view.setAttribute("role", "group");
      view.setAttribute("aria-label", "magnifier");
      view.setAttribute("aria-describedby", "how");
      view.addEventListener("pointerdown", follow);
      view.addEventListener("pointermove", follow);
      view.addEventListener("pointerleave", (e) => e.pointerType === "touch" || hide());
      view.addEventListener("pointercancel", hide);
      view.addEventListener("focus", () => {
        if (view.matches(":focus-visible")) show(scene, 0.5, 0.5);
      });
      view.addEventListener("blur", (event) => {
        // A click or tap on another picture of the scene moves the focus there: the lens goes on.
        if (!event.relatedTarget || !scene.contains(event.relatedTarget)) hide();
      });
      view.addEventListener("wheel", (event) => {
        // Before a click the wheel scrolls the page, as everywhere.
        if (document.activeElement !== view) return;
        event.preventDefault();
        rescale(scale * Math.exp(-event.deltaY / 500));
      }, { passive: false });
    });
  }
  document.addEventListener("keydown", onKey);
  document.addEventListener("pointerdown", (e) => e.target.closest(".view") || hide());

  // Many scenes are shown one at a time.
  const chooser = document.getElementById("chooser");
  if (chooser) {
    const select = chooser.querySelector("select");
    const [previous, next] = chooser.querySelectorAll("button");
    const choose = (i) => {
      hide();
      select.selectedIndex = (i + scenes.length) % scenes.length;
      scenes.forEach((scene, k) => { scene.hidden = k !== select.selectedIndex; });
    };
    select.addEventListener("change", () => choose(select.selectedIndex));
    previous.addEventListener("click", () => choose(select.selectedIndex - 1));
    next.addEventListener("click", () => choose(select.selectedIndex + 1));
    chooser.hidden = false;
    choose(0);
  }
})();
