"use strict";
// What the browser knows without drawing anything: sets of episodes, the address, filters, where episodes part.

const SETS = JSON.parse(document.getElementById("sets").textContent);
const OUTCOMES = {
  solved: { sign: "\u2713", word: "solved" },
  failed: { sign: "\u2717", word: "failed" },
  machine: { sign: "\u26a0", word: "machine failure" },
};

// Sets are scripts that call this function: the one way to load data that works from a disk too.
const waiting = new Map();
const loaded = new Map();
window.receiveEpisodes = (name, data) => waiting.get(name)(data);

// A set's content, loaded once. Rejects with a sentence for people; asked again, it then tries again.
function load(name) {
  if (!loaded.has(name)) {
    const content = fetchScript(name).then(unpack);
    content.catch(() => loaded.delete(name));
    loaded.set(name, content);
  }
  return loaded.get(name);
}

function fetchScript(name) {
  return new Promise((resolve, reject) => {
    waiting.set(name, resolve);
    const script = document.createElement("script");
    script.src = `episodes/${encodeURIComponent(name)}.js`;
    script.onerror = () =>
      reject(new Error(`episodes/${name}.js could not be loaded. The folder "episodes" belongs beside this page.`));
    document.head.append(script);
  });
}

async function unpack(data) {
  if (!("DecompressionStream" in window)) {
    throw new Error("This browser is too old to unpack episodes: any of 2023 or later will do.");
  }
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// The address holds all that is chosen: set, view, task or lesson, columns, filters (is.<column>=solved or failed).
function readAddress() {
  const values = new URLSearchParams(location.hash.slice(1));
  const set = SETS.find((s) => s.name === values.get("set")) ?? SETS[0];
  const wanted = {};
  for (const [key] of set.columns) wanted[key] = values.get(`is.${key}`) ?? "";
  const show = (values.get("show") ?? "").split(",").filter((key) => set.columns.some(([k]) => k === key));
  return {
    set,
    view: values.get("view") === "lessons" && set.lessons ? "lessons" : "tasks",
    id: values.get("id") ?? "",
    show: show.length ? show : set.first,
    kind: values.get("kind") ?? "",
    skill: values.get("skill") ?? "",
    words: values.get("words") ?? "",
    arm: values.get("arm") ?? "",
    wanted,
  };
}

function address(state) {
  const values = new URLSearchParams({ set: state.set.name });
  if (state.view !== "tasks") values.set("view", state.view);
  for (const key of ["kind", "skill", "words", "arm", "id"]) if (state[key]) values.set(key, state[key]);
  for (const [key, outcome] of Object.entries(state.wanted)) if (outcome) values.set(`is.${key}`, outcome);
  if (state.show.join() !== state.set.first.join()) values.set("show", state.show.join(","));
  return `#${values}`;
}

// Places in the set of the tasks that the filter leaves.
function tasksLeft(content, state) {
  const words = state.words.toLowerCase();
  return content.tasks.flatMap((task, place) => {
    const fits =
      (!state.kind || task.category === state.kind) &&
      (!state.skill || task.skill === state.skill) &&
      (!words || task.goal.toLowerCase().includes(words)) &&
      content.columns.every((c) => !state.wanted[c.key] || c.episodes[place]?.outcome === state.wanted[c.key]);
    return fits ? [place] : [];
  });
}

function lessonsLeft(content, state) {
  const words = state.words.toLowerCase();
  return content.lessons.filter(
    (lesson) =>
      (!state.kind || lesson.category === state.kind) &&
      (!state.arm || lesson.arm === state.arm) &&
      (!words || lesson.goal.toLowerCase().includes(words)),
  );
}

// The first turn whose actions differ, from 0; -1 where there is none. An episode that ended counts as no action;
// one that the machine broke off says nothing.
function parting(episodes) {
  const played = episodes.filter((e) => e && e.outcome !== "machine");
  const longest = Math.max(0, ...played.map((e) => e.turns.length));
  for (let turn = 0; turn < longest; turn++) {
    if (new Set(played.map((e) => (e.turns[turn] ? (e.turns[turn].action ?? "") : null))).size > 1) return turn;
  }
  return -1;
}
