
"use strict";
// Draws the page from the JSON beside it. Data reach the document as text nodes and attributes alone, never as markup.
(() => {
  const PAGE = 100; // rows in the document at once
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);

  const state = { group: null, sort: null, page: 0, open: new Set(), published: false };
  let shown = []; // rows of the group that pass the filter, in order
  let points = []; // of the plot, in pixels
  let drawn = 0; // width of the plot as it was drawn, in pixels

  function el(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function draw(name, attributes, ...children) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  const formats = [0, 1, 2, 3, 4].map((n) => new Intl.NumberFormat("en", { minimumFractionDigits: n, maximumFractionDigits: n }));
  const plain = (value, digits) => formats[digits].format(value);
  const spread = (pair, digits) => plain(pair[0], digits) + (pair[1] === null ? "" : ` ±${plain(pair[1], digits)}`);
  const rowsOf = (n) => `${plain(n, 0)} ${n === 1 ? "row" : "rows"}`;

  // ---- Groups and their columns

  function columnsOf(group) {
    const names = [...data.columns, ...group.own.map((name) => [name, name])], n = names.length;
    return [
      { title: "Model", value: (row) => row.sortLabel, rises: true },
      { title: "S", value: (row) => row.S && row.S[0], pair: (row) => row.S, digits: 0, mark: n + 1 },
      { title: "mean", value: (row) => row.mean && row.mean[0], pair: (row) => row.mean, digits: group.digits, mark: n },
      { title: "#par.", value: (row) => row.par, rises: true },
      { title: "n/10", value: (row) => row.ten },
      ...names.map(([name, title], i) => ({
        title, name, images: group.images[i], digits: group.digits, mark: i,
        value: (row) => row.cells[i] && row.cells[i][0], pair: (row) => row.cells[i],
      })),
    ];
  }

  for (const group of data.groups) {
    for (const row of group.rows) {
      row.sortLabel = row.label.toLowerCase();
      row.words = `${row.label} ${row.method} ${row.family}`.toLowerCase();
    }
    group.score = group.rows.some((row) => row.S) ? "S" : "mean"; // what the plot shows
    group.digits = group.rows.every((row) => row.seeds === 1) ? 2 : 1;
    group.columns = columnsOf(group);
  }

  // ---- Filter

  function options(select, values) {
    select.append(el("option", { value: "" }, "All"), ...values.map((value) => el("option", { value }, value)));
  }
  const distinct = (values) => [...new Set(values)].sort();
  const families = data.groups.flatMap((group) => group.rows.map((row) => row.family));
  options(at("family"), distinct(families));
  options(at("data-set"), distinct(data.groups.map((group) => group.data)));
  options(at("profile"), distinct(data.groups.map((group) => group.profile)));
  options(at("split"), distinct(data.groups.map((group) => group.split)));

  const fits = (select, value) => !select.value || select.value === value;
  const groupFits = (group) =>
    fits(at("data-set"), group.data) && fits(at("profile"), group.profile) && fits(at("split"), group.split);

  function rowFilter() {
    const query = at("query").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const family = at("family").value;
    const budget = at("budget").value === "" ? Infinity : Number(at("budget").value) + 0.005; // as it is printed
    return (words, rowFamily, par) =>
      (!family || rowFamily === family) && par <= budget && query.every((word) => words.includes(word));
  }

  function order(rows) {
    const { column, rises } = state.sort;
    const keyed = rows.map((row) => [column.value(row), row]);
    keyed.sort(([a, first], [b, second]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last, either way
      if (a === b) return first.sortLabel < second.sortLabel ? -1 : 1;
      return (a < b) === rises ? -1 : 1;
    });
    return keyed.map(([, row]) => row);
  }

  // ---- Drawing all

  const radios = data.groups.map((group, i) => {
    const radio = el("input", { type: "radio", name: "group", value: i });
    const count = el("span", { class: "count" });
    const apart = i ? `not comparable with the first: ${group.apart}` : "";
    const text = el("span", {}, el("span", {}, group.heading), el("small", { class: "note" }, apart));
    const label = el("label", {}, radio, text, count);
    radio.addEventListener("change", () => { choose(group); update(); });
    at("groups").lastElementChild.append(label);
    return { group, radio, count, label };
  });
  at("groups").hidden = data.groups.length < 2;

  function update() {
    const passes = rowFilter();
    at("clear").hidden = [...at("filter").elements].every((field) => !field.value);
    const rows = new Map();
    for (const { group, count, label } of radios) {
      label.hidden = !groupFits(group);
      if (label.hidden) continue;
      rows.set(group, group.rows.filter((row) => passes(row.words, row.family, row.par)));
      count.textContent = rowsOf(rows.get(group).length);
    }
    if (!rows.has(state.group)) choose([...rows.keys()].find((group) => rows.get(group).length) ?? [...rows.keys()][0] ?? null);
    for (const { group, radio } of radios) radio.checked = group === state.group;
    at("group").hidden = !state.group;
    at("nothing").textContent = state.group ? "" : "No group has this data set, profile and split.";
    if (!state.group) return;
    shown = order(rows.get(state.group));
    state.page = Math.max(0, Math.min(state.page, Math.ceil(shown.length / PAGE) - 1));
    drawRows();
    drawPlot();
  }

  function choose(group) {
    state.group = group;
    state.page = 0;
    state.open.clear();
    if (!group) return;
    const column = group.columns.find((one) => one.title === group.score && !one.name);
    state.sort = { column, rises: false };
    state.published = group.comparable;
    at("show-published").checked = state.published;
    at("heading").textContent = group.heading;
    at("standin").hidden = !group.standin;
    at("cut").hidden = !group.cut;
    at("apart").hidden = data.groups.length < 2;
    at("apart").textContent = group === data.groups[0]
      ? "A ranking of its own: what sets the other groups apart stands beside them."
      : `A ranking of its own, not comparable with the first group: ${group.apart}.`;
    at("settings").textContent = group.settings;
    at("notes").replaceChildren(...group.notes.map((note) => el("p", {}, note)));
    drawHead();
  }

  // ---- Table

  function drawHead() {
    const { group } = state;
    const cells = group.columns.map((column) => {
      column.arrow = el("i", { "aria-hidden": "true" });
      const names = column === group.columns[0] ? [column.title, column.arrow] : [column.arrow, column.title];
      const button = el("button", { type: "button" }, ...names, el("small", {}, column.images ?? ""));
      if (column.name) button.title = column.name;
      if (column.images) button.lastChild.append(el("span", { class: "unseen" }, " images"));
      button.addEventListener("click", () => {
        state.sort = { column, rises: state.sort.column === column ? !state.sort.rises : Boolean(column.rises) };
        state.page = 0;
        shown = order(shown);
        markSort();
        drawRows();
      });
      column.head = el("th", { scope: "col" }, button);
      return column.head;
    });
    at("table").tHead.replaceChildren(el("tr", {}, ...cells));
    at("table").caption.textContent = `${group.heading}. Sorted by the buttons in the header; the first button of a row opens it.`;
    markSort();
  }

  function markSort() {
    for (const column of state.group.columns) {
      const sorted = column === state.sort.column;
      column.head.ariaSort = sorted ? (state.sort.rises ? "ascending" : "descending") : "none";
      column.arrow.textContent = sorted ? (state.sort.rises ? " ↑ " : " ↓ ") : "";
    }
  }

  function cell(column, row) {
    const pair = column.pair(row);
    if (!pair) return el("td");
    const td = el("td", {}, el("span", {}, plain(pair[0], column.digits)));
    if (pair[1] !== null) td.append(el("small", {}, `±${plain(pair[1], column.digits)}`));
    const place = { b: "best", s: "second" }[row.marks[column.mark]];
    if (place) {
      td.className = place;
      td.append(el("span", { class: "unseen" }, ` (${place})`));
    }
    return td;
  }

  function drawRow(row) {
    const button = el("button", { type: "button", "aria-expanded": "false" }, row.label, el("small", {}, row.family));
    const seeds = row.seeds === 1 ? "1 seed" : `${row.seeds} seeds`;
    const line = el("tr", {}, el("th", { scope: "row" }, button));
    for (const column of state.group.columns.slice(1)) {
      if (column.pair) line.append(cell(column, row));
      else if (column.title === "n/10") line.append(el("td", {}, `${row.ten}/10`, el("small", {}, seeds)));
      else line.append(el("td", {}, plain(row.par, 2)));
    }
    button.addEventListener("click", () => toggle(row, line, !state.open.has(row)));
    return line;
  }

  function toggle(row, line, open) {
    line.querySelector("button").ariaExpanded = open;
    if (open) {
      state.open.add(row);
      line.after(el("tr", { class: "detail" }, el("td", { colspan: state.group.columns.length }, detail(row))));
    } else {
      state.open.delete(row);
      line.nextSibling.remove();
    }
  }

  function drawRows() {
    const first = state.page * PAGE;
    const slice = shown.slice(first, first + PAGE);
    const lines = slice.map(drawRow);
    at("table").tBodies[0].replaceChildren(...lines);
    slice.forEach((row, i) => state.open.has(row) && toggle(row, lines[i], true));
    at("scroll").className = slice.length > 20 ? "long" : ""; // a long one scrolls under its header
    const of = state.group.rows.length;
    at("status").textContent = shown.length
      ? `${plain(shown.length, 0)} of ${rowsOf(of)}`
      : `None of ${rowsOf(of)} fits the filter.`;
    at("pages").hidden = shown.length <= PAGE;
    at("page").textContent = `${plain(first + 1, 0)} to ${plain(first + slice.length, 0)}`;
    at("before").disabled = !first;
    at("after").disabled = first + PAGE >= shown.length;
  }

  function turn(by) {
    state.page += by;
    drawRows();
    at("scroll").scrollTop = 0;
  }
  at("before").addEventListener("click", () => turn(-1));
  at("after").addEventListener("click", () => turn(1));

  function show(row) { // opens a row wherever it is, and goes there
    state.page = Math.floor(shown.indexOf(row) / PAGE);
    state.open.add(row);
    drawRows();
    const line = [...at("table").tBodies[0].children].filter((one) => one.className !== "detail")[shown.indexOf(row) % PAGE];
    line.querySelector("button").focus({ preventScroll: true });
    at("scroll").scrollIntoView({ block: "nearest" });
    at("scroll").scrollTop += line.getBoundingClientRect().top - at("table").tHead.getBoundingClientRect().bottom;
  }

  // ---- What a row opens to

  const unique = (values) => [...new Set(values)];

  function facts(pairs) {
    return el("dl", {}, ...pairs.filter(([, text]) => text).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  }

  /* Numbers stand right, the last columns, as many as `texts` says, left. */
  function tableOf(head, rows, texts) {
    const side = (i) => (i >= head.length - texts ? { class: "text" } : {});
    const names = el("tr", {}, ...head.map((name, i) => el("th", { scope: "col", ...side(i) }, name)));
    const lines = rows.map((row) =>
      el("tr", {}, ...row.map((one, i) => (i ? el("td", side(i), one) : el("th", { scope: "row" }, one)))));
    return el("table", {}, el("thead", {}, names), el("tbody", {}, ...lines));
  }

  function versions(text) {
    return Object.entries(JSON.parse(text ?? "{}")).map(([name, version]) => `${name} ${version}`).join(", ");
  }

  function copier(text, label, className) {
    const button = el("button", { type: "button", class: className }, label);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        at("copied").textContent = `Copied: ${text}`;
        if (className) { // a hash stays to be read
          button.classList.add("copied");
          setTimeout(() => button.classList.remove("copied"), 1500);
        } else button.textContent = "Copied";
      } catch { // not every browser lets a file at the clipboard
        getSelection().selectAllChildren(className ? button : button.previousSibling);
        at("copied").textContent = "Selected: copy it with the keyboard";
      }
    });
    return button;
  }

  function detail(row) {
    const sheet = el("div", { class: "sheet" });
    const origins = unique(row.runs.map((run) => run[5]));
    const days = unique(row.runs.map((run) => run[4].slice(0, 10)).sort());
    sheet.append(facts([
      ["Method", row.method],
      ["Family", row.family],
      ["Fidelity", row.fidelity],
      ["#par.", `${plain(row.par, 4)}, with heads ${plain(row.heads, 4)}`],
      ["Domains", `${row.ten}/10`],
      ["Made", days.length > 1 ? `${days[0]} to ${days.at(-1)}` : days[0]],
    ]));

    const seeds = unique(row.runs.map((run) => run[1])).sort((a, b) => a - b);
    const names = [...data.columns.map(([name]) => name), ...state.group.own];
    const lines = [];
    names.forEach((name, i) => {
      if (!row.cells[i]) return;
      const runs = row.runs.filter((run) => run[0] === name);
      const images = unique(runs.map((run) => run[6])).map((place) => data.images[place]);
      const each = (of) => unique(images.map(of)).join("; ");
      lines.push([
        name,
        spread(row.cells[i], state.group.digits),
        row.sample[name].map((end) => plain(end, 1)).join(" to "),
        each(([, , train, evaluated]) => `${plain(train, 0)} / ${plain(evaluated, 0)}`),
        ...seeds.map((seed) => {
          const run = runs.find((one) => one[1] === seed);
          return run ? el("span", {}, `${plain(run[2], 2)} `, copier(`make bench RERUN=${run[3]}`, run[3], "hash")) : "";
        }),
        each(([train]) => train),
        each(([, evaluated]) => evaluated),
      ]);
    });
    const head = ["Domain", "top-1, ± over seeds", "95 % of the sample", "train / eval images"];
    const table = tableOf([...head, ...seeds.map((seed) => `seed ${seed}, hash`), "trained on", "evaluated on"], lines, 2);
    sheet.append(
      el("h3", {}, "Domains and seeds"),
      el("div", { class: "inner", tabindex: "0", role: "region", "aria-label": `Domains and seeds of ${row.label}` }, table),
      el("p", { class: "note" }, "A hash names a run; pressing it copies the command that runs it again."),
    );

    for (const place of origins) {
      const origin = data.origins[place];
      const runs = row.runs.filter((run) => run[5] === place).length;
      const busy = `${origin.threads} ${origin.threads === 1 ? "thread" : "threads"} a process, ${origin.workers} side by side`;
      sheet.append(
        el("h3", {}, origins.length > 1 ? `Where ${runs} of ${row.runs.length} runs come from` : "Where the runs come from"),
        facts([
          ["Peak rate", String(origin.lr)],
          ["Hardware", [origin.device, origin.machine, busy, origin.precision].join("; ")],
          ["Commit", origin.commit],
          ["Versions", versions(origin.versions)],
          ["Backbone", `${origin.backbone} (${origin.structure})`],
        ]),
        el("div", { class: "command" }, el("code", {}, origin.command), copier(origin.command, "Copy", "")),
      );
    }
    return sheet;
  }

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
