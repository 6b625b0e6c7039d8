// How an episode and a way back are drawn. Whatever comes from episodes goes in as text, never as markup.

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function outcome(name) {
  return el("span", { class: name }, `${OUTCOMES[name].sign} ${OUTCOMES[name].word}`);
}

const plural = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

// Which columns solved a task, a line an outcome: "✓ solved: rag, distilled".
function marks(content, place) {
  return Object.keys(OUTCOMES).flatMap((name) => {
    const keys = content.columns.filter((c) => c.episodes[place]?.outcome === name).map((c) => c.key);
    return keys.length ? [el("span", {}, outcome(name), `: ${keys.join(", ")}`)] : [];
  });
}

function episodeView(content, place, state) {
  const task = content.tasks[place];
  const columns = content.columns.filter((c) => state.show.includes(c.key));
  const episodes = columns.map((c) => c.episodes[place]);
  const part = parting(episodes);
  const said =
    part >= 0 ? `They part at turn ${part + 1}.` : columns.length > 1 ? "They take the same actions." : "";
  return [
    el("h2", {}, task.goal),
    el("div", { class: "bar" }, el("span", { class: "soft" }, `${task.category}, ${task.skill} skill`), columnBoxes(content, state), el("strong", { id: "parting" }, said)),
    hintsView(columns, place),
    el("details", { class: "fold" }, el("summary", {}, "The task as the agent first sees it"), el("p", {}, task.opening)),
    turnsView(columns, episodes, part),
  ];
}

function columnBoxes(content, state) {
  const boxes = content.columns.map((c) => {
    const box = el("input", { type: "checkbox", name: "show", value: c.key, checked: state.show.includes(c.key) });
    return el("label", {}, box, ` ${c.key}`);
  });
  return el("fieldset", {}, el("legend", {}, "Columns:"), ...boxes);
}

function hintsView(columns, place) {
  const hinted = columns.filter((c) => c.episodes[place]?.hints.length);
  if (!hinted.length) return el("p", { class: "small soft" }, "None of these was shown hints.");
  const lists = hinted.map((c) => {
    const items = c.episodes[place].hints.map(([id, text, failures]) => {
      const source = failures ? `from ${plural(failures, "failure")}` : "";
      return el("li", { title: `bank entry ${id}` }, text, el("span", { class: "soft" }, source && ` (${source})`));
    });
    return el("div", {}, el("b", {}, c.name), el("ol", {}, ...items));
  });
  return el("details", { class: "fold", open: true }, el("summary", {}, "Hints shown"), el("div", { class: "hints" }, ...lists));
}

function turnsView(columns, episodes, part) {
  const heads = columns.map((c, i) => el("th", { scope: "col" }, el("b", {}, c.name), ...summary(episodes[i])));
  const longest = Math.max(0, ...episodes.map((e) => e?.turns.length ?? 0));
  const rows = [];
  for (let turn = 0; turn < longest; turn++) {
    const here = turn === part ? el("span", { class: "here" }, "they part") : null;
    const cells = episodes.map((e) => el("td", {}, ...turnView(e, turn)));
    rows.push(el("tr", { class: here ? "parting" : null }, el("th", { scope: "row" }, String(turn + 1), here), ...cells));
  }
  const ends = episodes.map((e) => el("td", { class: "over" }, e ? `End: ${e.stop}.` : "not played"));
  rows.push(el("tr", {}, el("th", { scope: "row" }), ...ends));
  const table = el("table", { style: `--columns:${columns.length}` });
  table.append(el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Turn"), ...heads)), el("tbody", {}, ...rows));
  return el("div", { class: "turns", tabindex: "0", role: "region", "aria-label": "Turns, side by side" }, table);
}

function summary(episode) {
  if (!episode) return [el("span", { class: "soft" }, "not played")];
  if (episode.outcome === "machine") return [outcome("machine"), " (no evidence about the agent)"];
  const partly = episode.outcome === "failed" && episode.reward > 0 ? `, reward ${episode.reward.toFixed(2)}` : "";
  const took = `${partly}; ${plural(episode.turns.length, "turn")}, ${plural(episode.tokens, "token")}`;
  return [outcome(episode.outcome), el("span", { class: "soft small" }, took)];
}

function turnView(episode, place) {
  const turn = episode?.turns[place];
  if (!turn) return [el("span", { class: "over" }, "\u2013")];
  return [
    ...(turn.said ?? []).map(([name, text]) => el("div", { class: "thought" }, `${name}: ${text}`)),
    turn.thought ? el("div", { class: "thought" }, turn.thought) : null,
    turn.action ? el("div", { class: "action" }, `> ${turn.action}`) : null,
    ...(turn.notes ?? []).map((note) => el("div", { class: "noted" }, `\u26a0 ${note}`)),
    turn.seen ? el("div", { class: "seen" }, turn.refused ? el("b", { class: "failed" }, "refused: ") : "", turn.seen) : null,
  ].filter(Boolean);
}

// From a lesson to the episode it was made of, the hints shown there, and the failures those came from.
function lessonView(content, lesson, state) {
  const own = lesson.on_policy ? "The agent's own episode it was made of" : "The agent's own success it was made of";
  const made = lesson.from === "base" ? own : "The teacher's success it was made of";
  return [
    el("h2", {}, lesson.goal),
    el(
      "ol",
      { class: "steps" },
      el("li", {}, el("h3", {}, `1. The lesson (${lesson.arm})`), lessonFacts(lesson)),
      el("li", {}, el("h3", {}, `2. ${made}`), ...playedLines(content, lesson, lesson.from, state)),
      el("li", {}, el("h3", {}, "3. The hints, and the failures they came from"), ...entryViews(content, lesson, state)),
    ),
  ];
}

function lessonFacts(lesson) {
  const students = lesson.students.length ? `It trained ${lesson.students.join(", ")}. ` : "";
  const copy = lesson.on_policy ? "a second copy of it has the hints" : "no hint in it";
  const hints = lesson.hints_kept ? "its hints stay in it" : copy;
  const size = `${plural(lesson.tokens, "token")}, ${lesson.trained.toLocaleString("en")} of them trained; ${hints}. `;
  return el("p", {}, students, size, el("code", {}, `lesson ${lesson.id}`));
}

function playedLines(content, lesson, key, state) {
  const place = content.tasks.findIndex((task) => task.id === lesson.task);
  if (place < 0) return [el("p", {}, `Task ${lesson.task}; its episode is not kept in this report.`)];
  const episode = content.columns.find((c) => c.key === key).episodes[place];
  return [
    el("p", {}, outcome(episode.outcome), `: ${plural(episode.turns.length, "turn")}. ${episode.turns.map((t) => t.action ?? "").join(" > ")}`),
    el("p", {}, taskLink(lesson.task, state, "Turn by turn, beside what the base agent did"), " ", el("code", {}, `episode ${episode.id}`)),
  ];
}

function taskLink(id, state, words) {
  return el("a", { href: address({ ...state, view: "tasks", id, kind: "", words: "", arm: "", skill: "", wanted: {} }) }, words);
}

function entryViews(content, lesson, state) {
  const entries = lesson.entries.filter((id) => content.entries[id]);
  if (!entries.length) return [el("p", {}, "None: this arm learns from what the agent solved without hints.")];
  return entries.map((id) => {
    const entry = content.entries[id];
    const sources = entry.hints.filter((hint) => content.hints[hint]).map((hint) => hintSource(content, hint, entry, state));
    const about = `${entry.category}, rank ${entry.rank}, from ${plural(sources.length, "failure")}`;
    return el("details", { class: "fold", open: id === entries[0] }, el("summary", {}, entry.text), el("p", { class: "soft" }, `${about}; bank entry ${id}`), el("ul", {}, ...sources));
  });
}

function hintSource(content, id, entry, state) {
  const hint = content.hints[id];
  const place = content.tasks.findIndex((task) => task.id === hint.task);
  const goal = place < 0 ? hint.task : content.tasks[place].goal;
  const other = hint.text === entry.text ? "" : ` worded "${hint.text}";`;
  const link = place < 0 ? goal : taskLink(hint.task, state, goal);
  return el("li", {}, "Failed: ", link, `.${other} Rule ${hint.rule} saw: ${hint.evidence} `, el("code", {}, `hint ${id}`));
}
