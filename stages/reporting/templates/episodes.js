// The page: reads the address, draws list and episode, and writes the address when something is chosen.

const byId = (id) => document.getElementById(id);
let state = readAddress();
let content = null;
let drawn = null; // the state that the page shows

async function update() {
  state = readAddress();
  byId("set").value = `${state.set.name} ${state.view}`;
  const asked = state;
  try {
    const found = await load(state.set.name);
    if (asked !== state) return; // something else was chosen meanwhile
    content = found;
  } catch (error) {
    if (asked !== state) return;
    drawn = null;
    byId("main").replaceChildren(el("p", { role: "alert" }, error.message));
    return;
  }
  const same = drawn !== null && drawn.set === state.set && drawn.view === state.view;
  drawFilters(same);
  drawList();
  drawMain(same && drawn.id === state.id);
  drawn = state;
}

// Typing leaves no entry a letter in the browser's history.
function go(changes) {
  const next = address({ ...state, ...changes });
  if (next === location.hash) return;
  if ("words" in changes) location.replace(next);
  else location.hash = next;
}

// A search field that someone types in stays as it is while it is of the `same` set and view.
function drawFilters(same) {
  const tasks = state.view === "tasks";
  const anything = Object.fromEntries(state.set.columns.map(([key]) => [key, ""]));
  const all = { wanted: anything, kind: "", skill: "", arm: "", words: "", id: "" };
  const presets = [["all", all]];
  if (tasks) {
    for (const [said, query] of state.set.presets) presets.push([said, { wanted: { ...anything, ...wantedOf(query) }, id: "" }]);
  }
  const chosen = address({ ...state, id: "" });
  byId("presets").replaceChildren(
    ...presets.map(([said, changes]) => {
      const pressed = address({ ...state, ...changes }) === chosen;
      const button = el("button", { type: "button", class: "chip", "aria-pressed": String(pressed) }, said);
      button.addEventListener("click", () => go(changes));
      return button;
    }),
  );
  const rows = tasks ? content.tasks : content.lessons;
  const kinds = [...new Set(rows.map((row) => row.category))].sort();
  const skills = tasks ? [...new Set(rows.map((row) => row.skill))].sort() : [];
  const fields = [search(), choice("Kind of task", "kind", kinds, state.kind)];
  if (skills.length > 1) fields.push(choice("Skill", "skill", skills, state.skill));
  if (tasks) for (const [key] of state.set.columns) fields.push(choice(key, `is.${key}`, Object.keys(OUTCOMES), state.wanted[key]));
  else fields.push(choice("Arm", "arm", [...new Set(rows.map((row) => row.arm))], state.arm));
  const focused = document.activeElement?.name;
  if (!same || focused !== "words") byId("fields").replaceChildren(...fields);
  if (focused) byId("fields").querySelector(`[name="${CSS.escape(focused)}"]`)?.focus();
}

function wantedOf(query) {
  const pairs = [...new URLSearchParams(query)].filter(([key]) => key.startsWith("is."));
  return Object.fromEntries(pairs.map(([key, value]) => [key.slice(3), value]));
}

function choice(title, name, options, value) {
  const shown = ["", ...options].map((option) => {
    const word = option === "" ? "any" : (OUTCOMES[option]?.word ?? option);
    return el("option", { value: option, selected: option === value }, word);
  });
  const of = name.startsWith("is.") ? `outcome of ${title}` : null;
  return el("label", {}, title, el("select", { name, "aria-label": of }, ...shown));
}

function search() {
  return el("label", { class: "wide" }, "Words of the goal", el("input", { type: "search", name: "words", value: state.words }));
}

function rowsLeft() {
  if (state.view === "lessons") {
    return lessonsLeft(content, state).map((l) => ({ id: l.id, goal: l.goal, marks: () => [el("span", { class: "soft" }, `${l.arm}, ${l.category}`)] }));
  }
  return tasksLeft(content, state).map((place) => ({
    id: content.tasks[place].id,
    goal: content.tasks[place].goal,
    marks: () => [el("span", { class: "soft" }, content.tasks[place].category), ...marks(content, place)],
  }));
}

function drawList() {
  const rows = rowsLeft();
  const all = (state.view === "lessons" ? content.lessons : content.tasks).length;
  const more = content.left_out ? `; ${content.left_out} more tasks are not kept in this report` : "";
  byId("count").textContent = `${rows.length} of ${all}${more}`;
  if (!state.id && rows.length) state.id = rows[0].id;
  const items = rows.map((row) => {
    const link = el("a", { href: address({ ...state, id: row.id }), "data-id": row.id, "aria-current": row.id === state.id ? "true" : null });
    link.append(row.goal, ...row.marks());
    return el("li", {}, link);
  });
  const held = byId("list").contains(document.activeElement);
  byId("list").replaceChildren(...(items.length ? items : [el("li", { class: "empty soft" }, "No task is like that.")]));
  const current = byId("list").querySelector("[aria-current]");
  current?.scrollIntoView({ block: "nearest" });
  if (held) current?.focus({ preventScroll: true });
}

function drawMain(keepScroll) {
  const main = byId("main");
  const at = main.querySelector(".turns")?.scrollTop ?? 0;
  if (state.view === "lessons") {
    const lesson = content.lessons.find((l) => l.id === state.id);
    main.replaceChildren(...(lesson ? lessonView(content, lesson, state) : missing()));
    return;
  }
  const place = content.tasks.findIndex((task) => task.id === state.id);
  document.title = place < 0 ? "Episodes side by side" : `${content.tasks[place].goal}: episodes side by side`;
  main.replaceChildren(...(place < 0 ? missing() : episodeView(content, place, state)));
  for (const box of main.querySelectorAll("[name=show]")) box.addEventListener("change", chooseColumns);
  const turns = main.querySelector(".turns");
  if (turns && keepScroll) turns.scrollTop = at;
  else if (turns) scrollToParting(turns);
}

function missing() {
  return [el("p", {}, state.id ? `There is no ${state.id} in this set.` : "No task is like that.")];
}

function scrollToParting(turns) {
  const row = turns.querySelector(".parting");
  const head = turns.querySelector("thead");
  if (row) turns.scrollTop = Math.max(0, row.offsetTop - head.offsetHeight - 40);
}

function chooseColumns() {
  const show = [...document.querySelectorAll("[name=show]:checked")].map((box) => box.value);
  const last = document.activeElement?.value;
  go({ show: show.length ? show : state.set.first });
  queueMicrotask(() => setTimeout(() => document.querySelector(`[name=show][value="${CSS.escape(last ?? "")}"]`)?.focus()));
}

function step(by) {
  const links = [...byId("list").querySelectorAll("a")];
  const at = links.findIndex((link) => link.dataset.id === state.id);
  const next = links[Math.min(links.length - 1, Math.max(0, at + by))];
  if (next) location.hash = next.getAttribute("href");
}

// Arrows belong to fields and to what scrolls; j and k only not to fields.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const by = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by || !content || (event.key.startsWith("Arrow") && event.target.closest(".turns"))) return;
  event.preventDefault();
  step(by);
});

byId("set").append(
  ...SETS.flatMap((s) => [
    el("option", { value: `${s.name} tasks` }, s.title),
    ...(s.lessons ? [el("option", { value: `${s.name} lessons` }, `${s.lessons}, and the failures behind them`)] : []),
  ]),
);
byId("set").addEventListener("change", (event) => {
  const [name, view] = event.target.value.split(" ");
  location.hash = `#${new URLSearchParams(view === "tasks" ? { set: name } : { set: name, view })}`;
});
byId("fields").addEventListener("input", (event) => {
  const { name, value } = event.target;
  if (name.startsWith("is.")) go({ wanted: { ...state.wanted, [name.slice(3)]: value }, id: "" });
  else go({ [name]: value, id: "" });
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
if (innerWidth <= 800) byId("filters").open = false;
window.addEventListener("hashchange", update);
update();
