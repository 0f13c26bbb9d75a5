  // ---- Plot

  const NICE = [1, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100];

  function step(range, count) {
    const rough = range / count, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  }

  /* The points that no other beats: none has fewer parameters and as high a score. From few parameters to many. */
  function front(rows) {
    let top = -Infinity;
    const sorted = [...rows].sort((a, b) => a.x - b.x || b.y - a.y);
    return sorted.filter((one) => one.y > top && ((top = one.y), true));
  }

  function drawPlot() {
    const { group } = state, score = group.score, host = at("plot");
    const passes = rowFilter();
    const mine = shown.filter((row) => row[score]).map((row) => ({ row, label: row.label, x: row.par, y: row[score][0], bar: row[score][1] }));
    const theirs = data.published
      .filter((one) => one.par !== null && one[score] !== null && passes(one.label.toLowerCase(), one.family, one.par))
      .map((one) => ({ label: one.label, x: one.par, y: one[score], published: one }));
    const hollow = state.published ? theirs : [];
    const best = front(mine);
    const name = score === "S" ? "S" : "Mean top-1 (%)";
    at("published-label").textContent =
      group.comparable ? "Published rows, hollow" : "Published rows of the real test split, hollow; not comparable with these";
    at("show-published").parentNode.hidden = !data.published.length;
    at("published").hidden = !hollow.length;
    listFront(best, score);
    listPublished(hollow, score);
    describe(mine, hollow, score);
    points = [];
    at("tip").hidden = true;
    const all = [...mine, ...hollow];
    if (!all.length) return host.replaceChildren();

    drawn = host.clientWidth;
    const width = Math.max(280, drawn), height = Math.round(Math.min(400, Math.max(290, width * 0.45)));
    const left = 46, right = width - 14, top = 16, bottom = height - 40;
    const xs = all.map((one) => Math.log(one.x)), ys = all.flatMap((one) => [one.y - (one.bar ?? 0), one.y + (one.bar ?? 0)]);
    const low = { x: Math.min(...xs), y: Math.min(...ys) }, high = { x: Math.max(...xs), y: Math.max(...ys) };
    const padX = Math.max(0.02, (high.x - low.x) * 0.05);
    const gap = step(Math.max(high.y - low.y, score === "S" ? 10 : 1), 5);
    const floor = Math.max(0, Math.floor(low.y / gap) * gap), ceiling = Math.ceil(high.y / gap) * gap || gap;
    const px = (x) => left + ((Math.log(x) - low.x + padX) / (high.x - low.x + 2 * padX)) * (right - left);
    const py = (y) => bottom - ((y - floor) / Math.max(ceiling - floor, gap)) * (bottom - top);

    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-labelledby": "plot-title plot-caption" });
    for (let y = floor; y <= ceiling + gap / 2; y += gap) {
      svg.append(
        draw("line", { class: "grid", x1: left, x2: right, y1: py(y), y2: py(y) }),
        draw("text", { x: left - 8, y: py(y) + 4, "text-anchor": "end" }, plain(y, gap < 1 ? 1 : 0)),
      );
    }
    let last = -Infinity;
    for (const tick of NICE.filter((one) => px(one) >= left && px(one) <= right)) {
      if (px(tick) - last < 40) continue;
      last = px(tick);
      svg.append(
        draw("line", { class: "axis", x1: last, x2: last, y1: bottom, y2: bottom + 4 }),
        draw("text", { x: last, y: bottom + 17, "text-anchor": "middle" }, String(tick)),
      );
    }
    svg.append(
      draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      draw("text", { x: right, y: height - 6, "text-anchor": "end" }, "#par. (log)"),
      draw("text", { x: left, y: 6 }, name),
    );
    if (group.standin) {
      svg.append(draw("text", { class: "mark", x: right, y: 6, "text-anchor": "end" }, "stand-in data: no score of the challenge"));
    }

    for (const one of all) Object.assign(one, { left: px(one.x), top: py(one.y) });
    const dots = (list) => list.map((one) => `M${one.left.toFixed(1)} ${one.top.toFixed(1)}h0`).join("");
    const many = mine.length > 200;
    const bars = many ? [] : mine.filter((one) => one.bar);
    svg.append(draw("path", {
      class: "bars",
      d: bars.map((one) => `M${one.left.toFixed(1)} ${py(one.y - one.bar).toFixed(1)}V${py(one.y + one.bar).toFixed(1)}`).join(""),
    }));
    svg.append(draw("path", { class: many ? "dots many" : "dots", d: dots(mine.filter((one) => !best.includes(one))) }));
    if (best.length) {
      const stairs = best.slice(1).map((one) => `H${one.left.toFixed(1)}V${one.top.toFixed(1)}`).join("");
      svg.append(draw("path", { class: "front-line", d: `M${best[0].left.toFixed(1)} ${best[0].top.toFixed(1)}${stairs}H${right}` }));
    }
    for (const one of hollow) svg.append(draw("circle", { class: "hollow", cx: one.left, cy: one.top, r: 4 }));
    svg.append(draw("path", { class: "front-dots", d: dots(best) }));
    const ring = draw("circle", { class: "ring", r: 7, visibility: "hidden" });
    svg.append(ring);
    points = all;
    host.replaceChildren(svg);
    label(svg, [...best, ...(mine.length > 60 ? [] : mine.filter((one) => !best.includes(one)))], best, { left, right, top, bottom });
    follow(svg, ring);
  }

  /* Names beside points, those of the front first, each where it covers neither a point nor another name. */
  function label(svg, named, best, frame) {
    const taken = (points.length > 200 ? best : points).map((one) => [one.left - 5, one.top - 5, one.left + 5, one.top + 5]);
    for (const one of named) {
      const text = draw("text", { class: best.includes(one) ? "on-front" : "" }, one.label.length > 34 ? one.label.slice(0, 33) + "…" : one.label);
      svg.append(text);
      const wide = text.getComputedTextLength();
      const above = [[-wide - 4, -9], [-wide / 2, -12], [2, -9]]; // the front's own line runs below and to the right
      const beside = [[9, 4], [-9 - wide, 4], [-wide / 2, 19], [7, 16], [-7 - wide, 16]];
      const places = best.includes(one) ? [...above, ...beside] : [...beside, ...above];
      const spot = places
        .map(([x, y]) => [one.left + x, one.top + y])
        .find(([x, y]) => {
          const box = [x, y - 11, x + wide, y + 3];
          if (box[0] < frame.left || box[2] > frame.right || box[1] < frame.top - 6 || box[3] > frame.bottom) return false;
          return taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
        });
      if (!spot) { text.remove(); continue; }
      text.before(draw("rect", { class: "back", x: spot[0] - 2, y: spot[1] - 11, width: wide + 4, height: 14 }));
      text.setAttribute("x", spot[0]);
      text.setAttribute("y", spot[1]);
      taken.push([spot[0], spot[1] - 11, spot[0] + wide, spot[1] + 3]);
    }
  }

  const named = (one, score) => `#par. ${plain(one.x, 2)}, ${score} ${plain(one.y, score === "S" ? 0 : 1)}`;

  function follow(svg, ring) {
    let near = null;
    svg.addEventListener("pointermove", (event) => {
      const frame = svg.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
      let nearest = 22;
      near = null;
      for (const one of points) {
        const away = Math.hypot(one.left - x, one.top - y);
        if (away < nearest) [nearest, near] = [away, one];
      }
      const tip = at("tip");
      tip.hidden = !near;
      ring.setAttribute("visibility", near ? "visible" : "hidden");
      svg.style.cursor = near?.row ? "pointer" : "default";
      if (!near) return;
      ring.setAttribute("cx", near.left);
      ring.setAttribute("cy", near.top);
      const source = near.published ? `published, real test split: ${near.published.source}` : near.row.family;
      tip.replaceChildren(el("b", {}, near.label), `${named(near, state.group.score)}`, el("br"), source);
      tip.style.left = `${Math.max(0, Math.min(near.left + 12, frame.width - tip.offsetWidth))}px`;
      tip.style.top = `${near.top > 90 ? near.top - tip.offsetHeight - 10 : near.top + 14}px`;
    });
    svg.addEventListener("pointerleave", () => { at("tip").hidden = true; ring.setAttribute("visibility", "hidden"); });
    svg.addEventListener("click", () => near?.row && show(near.row));
  }

  function listFront(best, score) {
    at("front").replaceChildren(...best.map((one) => {
      const button = el("button", { type: "button" }, one.label);
      button.addEventListener("click", () => show(one.row));
      return el("li", {}, button, el("span", {}, named(one, score)));
    }));
  }

  function listPublished(hollow, score) {
    const digits = score === "S" ? 0 : 2;
    const lines = hollow.map((one) => [one.label, one.published.shown, plain(one.y, digits), el("span", {}, one.published.source)]);
    at("published").lastElementChild.replaceChildren(tableOf(["Published", "#par.", score, "Source"], lines, 1));
  }

  function describe(mine, hollow, score) {
    const { group } = state;
    const text = [];
    if (mine.length) {
      text.push(`${score === "S" ? "S" : "Mean top-1"} against #par. (log) of ${rowsOf(mine.length)}, the Pareto front in colour.`);
      if (mine.some((one) => one.bar) && mine.length <= 200) text.push("Bars: ± deviation over seeds.");
      if (score === "mean") text.push("The mean stands in for S, which no row of this group has.");
    } else if (shown.length) {
      text.push("No point: mean and S need all ten domains.");
    } else {
      text.push("No point: no row fits the filter.");
    }
    const lacking = shown.length - mine.length;
    if (mine.length && lacking) text.push(`${rowsOf(lacking)} with fewer than ten domains ${lacking === 1 ? "has" : "have"} no point.`);
    if (hollow.length) {
      const apart = group.comparable ? "" : ", not comparable with the filled ones";
      text.push(`Hollow: ${rowsOf(hollow.length)} as published, on the real test split${apart}.`);
    }
    if (group.standin) text.push("Stand-in data: never a score of the challenge.");
    at("plot-caption").textContent = text.join(" ");
  }

  // ---- Controls

  at("filter").addEventListener("input", () => { state.page = 0; update(); });
  at("filter").addEventListener("reset", () => setTimeout(update)); // after the fields are empty
  at("filter").addEventListener("submit", (event) => event.preventDefault());
  at("show-published").addEventListener("change", (event) => { state.published = event.target.checked; drawPlot(); });
  new ResizeObserver(() => state.group && at("plot").clientWidth !== drawn && drawPlot()).observe(at("plot"));

  const remembered = { get: () => { try { return localStorage.theme; } catch { return null; } }, set: (theme) => { try { localStorage.theme = theme; } catch { /* not remembered */ } } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  let theme = remembered.get();
  function paint() {
    const dark = theme ? theme === "dark" : system.matches;
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    at("theme").textContent = dark ? "Light theme" : "Dark theme";
  }
  at("theme").addEventListener("click", () => {
    theme = document.documentElement.style.colorScheme === "dark" ? "light" : "dark";
    remembered.set(theme);
    paint();
  });
  system.addEventListener("change", paint);

  paint();
  update();
})();
