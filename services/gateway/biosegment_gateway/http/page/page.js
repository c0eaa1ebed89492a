// The first page: projects, their volumes, models and jobs. No framework, nothing from elsewhere.
"use strict";

const KEY = "biosegment-token";
const ACTIVE_MS = 1000; // while a job runs
const IDLE_MS = 5000;
const ENDED = new Set(["STATE_SUCCEEDED", "STATE_FAILED", "STATE_CANCELLED"]);
const $ = (id) => document.getElementById(id);

let token = "";
let projects = [];
let current = "";
let timer = 0;
let endedJobs = -1;

// ---- asking ------------------------------------------------------------------------------------------------------

class Refused extends Error {}

async function ask(path) {
  let response;
  try {
    response = await fetch(path, { headers: { authorization: `Bearer ${token}` }, cache: "no-store" });
  } catch {
    throw new Error("The gateway does not answer. Is the platform running?");
  }
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) throw new Refused(body.message || "The token was refused.");
  if (!response.ok) throw new Error(body.message || `The gateway answered ${response.status}.`);
  return body;
}

async function all(path, field) {
  const found = [];
  let page = "";
  do {
    const mark = path.includes("?") ? "&" : "?";
    const body = await ask(`${path}${mark}page_size=500&page_token=${encodeURIComponent(page)}`);
    found.push(...(body[field] || []));
    page = body.nextPageToken;
  } while (page);
  return found;
}

// ---- showing -----------------------------------------------------------------------------------------------------

// Text only ever becomes a text node: names come from many people.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

function table(columns, rows) {
  const head = make("tr", {}, ...columns.map(([title, number]) => make("th", { scope: "col", class: number && "number" }, title)));
  const body = rows.map((cells) =>
    make("tr", {}, ...cells.map((cell, i) =>
      make("td", { "data-label": columns[i][0], class: columns[i][1] && "number" }, make("span", {}, ...[cell].flat())))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

function show(place, rows, columns, nothing) {
  $(place).replaceChildren(rows.length ? table(columns, rows) : make("p", { class: "hint" }, nothing));
}

function fail(error) {
  $("alert").textContent = error ? error.message : "";
  $("alert").hidden = !error;
  if (error instanceof Refused) leave(error.message);
}

const last = (name) => (name || "").split("/").pop();
const triple = (value) => (value ? [value.z, value.y, value.x].join(" × ") : "");
const rounded = (value) => Number(Number(value).toPrecision(4)).toString();
const voxel = (size) => (size ? [size.zNm, size.yNm, size.xNm].map(rounded).join(" × ") : "");
const when = (time) => (time ? new Date(time).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) : "");
const word = (state) => (state || "").replace("STATE_", "").toLowerCase();

function duration(seconds) {
  if (!(seconds > 0)) return "";
  const s = Math.round(seconds);
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    prompt("Copy this address:", text);
  }
  setTimeout(() => (button.textContent = "Copy viewer URL"), 1500);
}

function address(volume) {
  const plain = `${location.origin}/zarr/${volume.name}`;
  const secret = `${location.origin}/zarr/t/${token}/${volume.name}`;
  const button = make("button", {
    type: "button", title: "With your token in it: for napari and other viewers, not for others' eyes",
    onclick: () => copy(button, secret),
  }, "Copy viewer URL");
  return [make("code", {}, plain), " ", button];
}

function showVolumes(volumes) {
  show("volumes", volumes.map((volume) => [
    [volume.displayName, make("div", { class: "faint" }, last(volume.name))], triple(volume.shape), voxel(volume.voxelSize),
    (volume.dataType || "").replace("DATA_TYPE_", "").toLowerCase(), address(volume),
  ]), [["Volume"], ["Voxels z × y × x", true], ["Voxel size nm", true], ["Type"], ["OME-Zarr"]], "No volumes yet.");
}

function showModels(models) {
  const version = new Map(models.map((model) => [model.name, `v${model.version}`]));
  show("models", models.map((model) => [
    `v${model.version}`, [model.displayName || last(model.name),
      make("div", { class: "faint" }, model.dataLicense ? `Data: ${model.dataLicense}` : "")],
    model.parent ? version.get(model.parent) || last(model.parent) : "–", String(model.annotationCount ?? ""),
    Object.entries(model.metrics || {}).map(([name, value]) => `${name} ${rounded(value)}`).join(", "), when(model.createTime),
  ]), [["Version"], ["Model"], ["Parent"], ["Annotations", true], ["Metrics"], ["Made"]], "No models yet.");
}

function showJobs(jobs) {
  show("jobs", jobs.map((job) => {
    const progress = job.progress || {};
    const state = word(job.state);
    const kind = Object.keys(job.spec || {})[0] || "";
    const running = state === "running";
    const bar = make("progress", { max: 1, value: progress.fraction || 0, "aria-label": `${kind} ${last(job.name)}` });
    const count = Number(progress.total) ? `${progress.done} of ${progress.total} ${progress.unit}` : "";
    const eta = duration(progress.etaS);
    const text = running ? [progress.step, count, eta && `${eta} left`].filter(Boolean).join(" · ")
      : state === "queued" && job.queuePosition ? `${job.queuePosition} before it`
      : job.error ? job.error.message : "";
    return [
      kind.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`), make("span", { class: `state-${state}` }, state),
      [running ? bar : "", make("span", { class: "faint" }, text)], job.owner || "–", when(job.createTime),
    ];
  }), [["Job"], ["State"], ["Progress"], ["By"], ["Asked for"]], "No jobs yet.");
}

function showServices(services) {
  $("services").replaceChildren(...services.map((service) => {
    const state = service.health.replace("HEALTH_", "").toLowerCase().replace("_", " ");
    const kind = state === "serving" ? "good" : state === "not serving" ? "busy" : "";
    return make("li", { class: kind, title: `${state} ${service.version}` }, service.service,
      kind === "good" ? "" : ` (${state})`);
  }));
}

function showProjects() {
  $("projects").replaceChildren(...projects.map((project) => make("li", {},
    make("a", { href: `#${project.name}`, "aria-current": project.name === current && "page" },
      project.displayName || last(project.name)))));
  if (!projects.length) {
    $("project-title").textContent = "No projects yet";
    $("project-description").textContent = "Make one with the command line: biosegment project create";
  }
  for (const section of document.querySelectorAll("#project section")) section.hidden = !projects.length;
}

function showProject(project) {
  document.title = `${project.displayName || last(project.name)} · BioSegment`;
  $("project-title").textContent = project.displayName || last(project.name);
  $("project-description").textContent = project.description || "";
  $("classes").replaceChildren(...(project.classes || []).map((label) => {
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of [["width", "100%"], ["height", "100%"], ["rx", "2"]]) square.setAttribute(name, value);
    square.setAttribute("fill", `#${(label.colorRgb || 0).toString(16).padStart(6, "0")}`);
    swatch.setAttribute("aria-hidden", "true");
    swatch.append(square);
    return make("li", {}, swatch, `${label.displayName} (${label.value})`);
  }));
}

// ---- moving about ------------------------------------------------------------------------------------------------

async function fill(place, load, render) {
  try {
    render(await load());
    return null;
  } catch (error) {
    if (error instanceof Refused) throw error;
    $(place).replaceChildren(make("p", { class: "state-failed" }, error.message));
    return error;
  }
}

async function refreshProject(name) {
  const mine = (render) => (value) => { if (name === current) render(value); };
  await Promise.all([
    fill("volumes", () => all(`/api/${name}/volumes`, "volumes"), mine(showVolumes)),
    fill("models", () => all(`/api/${name}/models`, "models"), mine(showModels)),
  ]);
}

async function tick() {
  clearTimeout(timer);
  if (!token || document.hidden) return;
  let pause = IDLE_MS;
  const name = current;
  try {
    if (name) {
      await fill("jobs", () => ask(`/api/jobs?page_size=20&project=${encodeURIComponent(name)}`), (body) => {
        if (name !== current) return;
        showJobs(body.jobs);
        if (body.jobs.some((job) => !ENDED.has(job.state))) pause = ACTIVE_MS;
        const ended = body.jobs.filter((job) => ENDED.has(job.state)).length;
        // What a job made is shown without being asked for.
        if (endedJobs >= 0 && ended !== endedJobs) refreshProject(name).catch(fail);
        endedJobs = ended;
      });
    }
    if (pause === IDLE_MS || !$("services").childElementCount) showServices((await ask("/api/status")).services);
    fail(null);
  } catch (error) {
    fail(error);
  }
  if (token) timer = setTimeout(tick, pause);
}

async function choose() {
  const wanted = decodeURIComponent(location.hash.slice(1));
  const named = (name) => projects.find((item) => item.name === name);
  const project = named(wanted) || named(current) || projects[0];
  current = project ? project.name : "";
  endedJobs = -1;
  showProjects();
  if (project) {
    showProject(project);
    for (const place of ["jobs", "volumes", "models"]) $(place).replaceChildren(make("p", { class: "hint" }, "…"));
    refreshProject(current).catch(fail);
  }
  await tick();
}

async function enter(secret) {
  token = secret.trim();
  try {
    projects = await all("/api/projects", "projects");
  } catch (error) {
    fail(error);
    if (error instanceof Refused) return;
    projects = [];
    timer = setTimeout(() => enter(token), IDLE_MS);
    return;
  }
  sessionStorage.setItem(KEY, token);
  fail(null);
  $("enter").hidden = true;
  $("content").hidden = $("leave").hidden = false;
  await choose();
}

function leave(message = "") {
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  token = current = "";
  projects = [];
  $("content").hidden = $("leave").hidden = true;
  for (const place of ["services", "projects", "jobs", "volumes", "models", "classes"]) $(place).replaceChildren();
  $("enter").hidden = false;
  $("alert").textContent = message;
  $("alert").hidden = !message;
  $("token").value = "";
  $("token").focus();
}

function step(by) {
  const index = projects.findIndex((project) => project.name === current) + by;
  if (index >= 0 && index < projects.length) location.hash = projects[index].name;
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value);
});
$("leave").addEventListener("click", () => leave());
window.addEventListener("hashchange", () => start());
document.addEventListener("visibilitychange", tick);
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") step(1);
  if (event.key === "k") step(-1);
});

function start() {
  const given = location.hash.match(/^#token=([^&]+)(?:&(.*))?/); // #token=bsg_...&projects/kidney
  if (given) {
    // Out of the address bar and the history at once.
    history.replaceState(null, "", location.pathname + (given[2] ? `#${given[2]}` : ""));
    enter(decodeURIComponent(given[1]));
  } else if (token) {
    choose();
  } else if (sessionStorage.getItem(KEY)) {
    enter(sessionStorage.getItem(KEY));
  } else {
    leave();
  }
}

start();
