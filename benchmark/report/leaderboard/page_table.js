
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
  options(at("backbone"), distinct(data.groups.map((group) => group.backbone)));

  const fits = (select, value) => !select.value || select.value === value;
  const groupFits = (group) =>
    fits(at("data-set"), group.data) && fits(at("profile"), group.profile) &&
    fits(at("split"), group.split) && fits(at("backbone"), group.backbone);

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
    at("nothing").textContent = state.group ? "" : "No group has this data set, profile, split and backbone.";
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
    at("cut").hidden = group.limit === null;
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

