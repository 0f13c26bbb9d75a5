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

  function signed(value) {
    const size = plain(Math.abs(value), 1);
    return (size === "0.0" ? "" : value < 0 ? "−" : "+") + size;
  }

  /* The row's method on every backbone that has it, for the same data and split, each beside fine-tuning there. */
  function onBackbones(row) {
    const { group } = state;
    const fields = ["data", "data_id", "split", "limit", "standin"];
    const same = data.groups.filter((one) =>
      fields.every((name) => one[name] === group[name]) && (one === group || one.backbone !== group.backbone));
    const lines = same.flatMap((one) => {
      const mine = one.rows.find((other) => other.method === row.method);
      const tuned = one.rows.find((other) => other.method === "finetune");
      if (!mine) return [];
      const both = mine.mean && tuned?.mean;
      const above = both ? mine.mean[0] - tuned.mean[0] : 0;
      return [[
        one.backbone,
        plain(mine.par, 2),
        mine.S ? spread(mine.S, 0) : "",
        mine.mean ? spread(mine.mean, one.digits) : "",
        both ? spread(tuned.mean, one.digits) : "",
        both ? signed(above) : "",
      ]];
    });
    if (lines.length < 2) return [];
    const head = ["Backbone", "#par.", "S", "mean", "mean of finetune", "difference"];
    return [
      el("h3", {}, "The same method on other backbones"),
      el("div", { class: "inner", tabindex: "0", role: "region", "aria-label": `Backbones of ${row.label}` }, tableOf(head, lines, 0)),
      el("p", { class: "note" }, "S of each backbone is against its own fine-tuning, so compare differences and not S between backbones."),
    ];
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

    sheet.append(...onBackbones(row));

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

