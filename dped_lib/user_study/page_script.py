"""Run the page of a subject in the browser: its script for keys, clicks, sizes and the connection.

Keys and clicks press the buttons. Besides, the page sends the kernel only the size of the pictures and the name that
this browser remembers.
"""

from dped_lib.user_study import page_style

#: Milliseconds. The page takes no answer sooner after both pictures are on the screen, or the kernel after it sent them.
LOOK = 200

#: Milliseconds. The question whether a taken name is the subject's own takes no answer sooner after it is on the screen.
READ = 1000

#: Seconds without the next pictures after which the page counts an answer as lost on the way.
PATIENCE = 20

#: Milliseconds between two checks of the connection.
CHECK = 3000

#: Milliseconds that a reload may take. Until then the page does not reload again: a second reload would cancel the first,
#: and each one starts a process on the server.
RELOADING = 120_000

#: What a subject reads while the server cannot be reached. An answer that was given meanwhile is not stored.
LOST_TEXT = (
    "The connection is lost. Please wait: when it is back, you can go on here. If the page then starts anew, press Go on. "
    "Your answers are stored; the last pair may come once more."
)

_KEYS_AND_CLICKS = """
  const study = ".dped-study", pair = ".dped-study-pair";
  const side = {"1": ".FIRST", "ArrowLeft": ".FIRST", "2": ".SECOND", "ArrowRight": ".SECOND"};
  const within = (event, selector) => event.target.closest ? event.target.closest(selector) : null;
  const picturesOf = page => [...page.querySelectorAll(pair + " img")];

  // Which question the subject has answered, since when the next one is awaited, and since when it is seen. Over a slow
  // connection the kernel asks the next question long before its pictures are here. The kernel sends the number after
  // the pictures. Two questions may have a picture in common, so its address tells nothing.
  const number = page => page.querySelector(".dped-study-top .widget-html-content")?.textContent;
  const states = new WeakMap();
  const watch = page => {
    if (!states.has(page)) states.set(page, {answered: null, asked: null, seen: null});
    const state = states.get(page), pictures = picturesOf(page), now = performance.now();
    if (!page.classList.contains("ASKING")) state.answered = state.asked = null;
    const here = pictures.length === 2 && number(page) !== state.answered
      && pictures.every(picture => picture.complete && picture.naturalWidth);
    state.seen = here ? state.seen ?? now : null;
    if (here) state.asked = null;
    if (state.asked === null) page.querySelectorAll(".CHOSEN").forEach(column => column.classList.remove("CHOSEN"));
    page.classList.toggle("OPEN", here && now - state.seen >= LOOK);
    return state;
  };

  window.addEventListener("keydown", event => {
    const entrance = event.key === "Enter" && within(event, ".dped-study-entrance");
    if (entrance && event.target.matches("input")) entrance.querySelector(".BEGIN").click();
    if (!side[event.key] || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const button = document.querySelector(side[event.key] + ":not([disabled])");
    const page = button && button.closest(study);
    const focus = document.activeElement;
    if (!page || (focus && focus !== document.body && !page.contains(focus))) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    button.click();
  }, true);

  // Every answer is a click on a button, also that of a key or on a picture. Here it is refused or passes.
  window.addEventListener("click", event => {
    const button = within(event, pair + " button");
    if (!button) return;
    const page = button.closest(study), state = watch(page);
    if (!page.classList.contains("OPEN") || document.querySelector(".LOST")) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    state.answered = number(page);
    state.asked = performance.now();
    button.parentElement.classList.add("CHOSEN");
    watch(page);
  }, true);

  window.addEventListener("click", event => {
    const page = within(event, study);
    if (!page) return;
    // The focus leaves the chosen button, so that a second Enter chooses nothing.
    if (!page.contains(document.activeElement) || document.activeElement.closest(pair)) {
      page.tabIndex = -1;
      page.style.outline = "none";
      page.focus({preventScroll: true});
    }
    if (event.target.matches(pair + " img")) event.target.parentElement.querySelector("button").click();
  });
"""

_ENTRANCE = """
  const remembered = "dped-study-name";
  const write = (field, text, kind) => {
    field.value = text;
    field.dispatchEvent(new Event(kind, {bubbles: true}));
  };
  // The kernel must have the whole name before it hears of the button. It may lag behind a fast typist.
  window.addEventListener("click", event => {
    const button = within(event, ".BEGIN");
    if (!button) return;
    const field = button.closest(".dped-study-entrance").querySelector("input:not(.REMEMBERED input)");
    write(field, field.value, "change");
  }, true);
  // Only a name with which the study goes on is remembered, and not one that somebody else has.
  const remember = field => {
    if (!field.value || field.dataset.kept === field.value) return;
    field.dataset.kept = field.value;
    try { localStorage.setItem(remembered, field.value); } catch { /* This browser remembers nothing. */ }
  };
  // A press that comes at once was meant for the button that the subject saw before.
  const asked = new WeakMap();
  const ask = button => {
    const since = asked.get(button), text = button.textContent;
    if (!button.offsetParent || document.hidden) asked.delete(button);
    else if (!since || since.text !== text) {
      asked.set(button, {text, time: performance.now()});
      button.scrollIntoView({block: "nearest"});
    }
  };
  window.addEventListener("click", event => {
    const button = within(event, ".CONFIRM");
    if (!button) return;
    ask(button);
    if (performance.now() - (asked.get(button)?.time ?? Infinity) >= READ) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
  let touched = false;  // The offer arrives late. It takes the focus from nobody who has begun to type.
  for (const kind of ["pointerdown", "keydown"]) window.addEventListener(kind, () => { touched = true; }, true);
  const open = entrance => {
    entrance.querySelectorAll(".CONFIRM").forEach(ask);
    const offer = entrance.querySelector(".GO_ON"), focus = document.activeElement;
    if (offer?.offsetParent && !offer.dataset.focused) {
      offer.dataset.focused = "yes";
      if (!touched && (focus === document.body || focus.value === "")) offer.focus();
    }
    if (entrance.dataset.open) return;
    entrance.dataset.open = "yes";
    let name = null;
    try { name = localStorage.getItem(remembered); } catch { /* This browser remembers nothing. */ }
    if (name) write(entrance.querySelector(".REMEMBERED input"), name, "input");
    if (matchMedia("(hover: hover)").matches) entrance.querySelector("input:not(.REMEMBERED input)").focus();
  };
"""

_SIZES = """
  const fit = page => {
    const pictures = picturesOf(page), first = pictures[0];
    if (pictures.length < 2 || !first.naturalWidth || !first.offsetParent) return;
    const stacked = matchMedia("STACKED").matches, count = stacked ? 2 : 1, gap = 8;
    const row = first.closest(pair);
    // In a notebook the page scrolls with the cells around it, and alone it has the whole window.
    const view = page.closest(".jp-WindowedPanel-outer") || document.documentElement;
    const alone = document.querySelector("body[data-voila] #rendered_cells");
    const edge = side => parseFloat(getComputedStyle(alone)["padding" + side]);
    const around = alone ? edge("Top") + edge("Bottom") : 0;
    const rest = page.offsetHeight - count * first.offsetHeight + around;
    const wide = stacked ? row.clientWidth : (row.clientWidth - gap) / 2;
    const high = (view.clientHeight - rest) / count;
    const shape = first.naturalWidth / first.naturalHeight;
    const width = Math.floor(Math.max(80, Math.min(first.naturalWidth, wide, high * shape)));
    page.style.setProperty("--dped-width", width + "px");
    pictures.forEach((picture, i) => {
      picture.alt = ["first picture", "second picture"][i];
      picture.draggable = false;
    });
    const shown = Math.min(...pictures.map(picture => picture.getBoundingClientRect().width));
    const said = [shown, first.naturalWidth, window.devicePixelRatio].join(" ");
    const field = page.querySelector(".SHOWN input");
    if (field && field.value !== said) write(field, said, "input");
  };
  const all = () => {
    document.querySelectorAll(".dped-study-entrance").forEach(open);
    document.querySelectorAll(".ACCEPTED input").forEach(remember);
    document.querySelectorAll(study).forEach(page => { fit(page); watch(page); });
  };
  document.addEventListener("load", event => {
    const page = within(event, study);
    if (page) { fit(page); watch(page); }
  }, true);
  window.addEventListener("resize", all);
  // A picture that loads before the page shows it reports nothing here, and JupyterLab resizes without an event.
  setInterval(all, 100);
"""

_CONNECTION = """
  const config = "voila" in document.body.dataset && document.getElementById("jupyter-config-data");
  if (!config) return;
  const {baseUrl, kernelId} = JSON.parse(config.textContent);
  const notice = shown => {
    const old = document.querySelector(".LOST");
    if (!shown && old) old.remove();
    if (!shown || old) return;
    const text = document.createElement("div");
    text.className = "LOST";
    text.setAttribute("role", "alert");
    text.textContent = "LOST_TEXT";
    document.body.append(text);
  };
  const awaited = () => Math.max(0, ...[...document.querySelectorAll(study)].map(watch).map(
    state => state.asked === null ? 0 : performance.now() - state.asked
  ));
  let busy = false, failed = 0, leaving = false;
  const check = async () => {
    if (busy || document.hidden || document.querySelector(".DONE")) return;
    busy = true;
    let reached = false, serves = false;
    try {
      const abort = new AbortController(), timer = setTimeout(() => abort.abort(), 2 * CHECK);
      const reply = await fetch(baseUrl + "api/kernels/" + kernelId, {cache: "no-store", signal: abort.signal});
      clearTimeout(timer);
      reached = reply.ok || reply.status === 404;
      serves = reply.ok && (await reply.json()).connections > 0 && awaited() < 1000 * PATIENCE;
      // The process of this page is gone, and a new page has a new one.
      if (reply.status === 404) failed += 2;
    } catch { /* The server is not reached. */ }
    busy = false;
    failed = serves ? 0 : failed + 1;
    notice(failed > 1);
    if (!reached || failed < 3 || leaving) return;
    leaving = true;
    setTimeout(() => { leaving = false; }, RELOADING);
    location.reload();
  };
  setInterval(check, CHECK);
  for (const sign of ["online", "offline"]) window.addEventListener(sign, check);
  document.addEventListener("visibilitychange", check);
"""

#: If the cell runs again, there is still one listener of each kind. They are on the window and capture keys and clicks
#: first, because JupyterLab would turn the cell into a heading.
SCRIPT = f"""
(() => {{
  if (window.dpedStudyKeys) return;
  window.dpedStudyKeys = true;
{_KEYS_AND_CLICKS}{_ENTRANCE}{_SIZES}{_CONNECTION}
}})();
"""
for _name in (
    "FIRST",
    "SECOND",
    "SHOWN",
    "BEGIN",
    "CONFIRM",
    "ACCEPTED",
    "GO_ON",
    "REMEMBERED",
    "ASKING",
    "OPEN",
    "DONE",
    "CHOSEN",
    "STACKED",
):
    SCRIPT = SCRIPT.replace(_name, str(getattr(page_style, _name)))
for _name, _value in {
    "LOST_TEXT": LOST_TEXT,  # before LOST, with which its name begins
    "LOST": page_style.LOST,
    "LOOK": LOOK,
    "READ": READ,
    "PATIENCE": PATIENCE,
    "CHECK": CHECK,
    "RELOADING": RELOADING,
}.items():
    SCRIPT = SCRIPT.replace(_name, str(_value))
