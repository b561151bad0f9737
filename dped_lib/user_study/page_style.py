"""Lay out the page of a subject in the browser: its style sheet, and the script for keys, clicks and sizes.

Both pictures get the same size, the largest that fits into the window: side by side, or one above the other in a window
of less than 700 CSS pixels. A pixel of the picture never covers more than one CSS pixel. A dense screen has several
pixels in a CSS pixel, and only there a picture is enlarged.
"""

#: CSS classes of the buttons of the first and second picture, and of the field that tells the kernel the size.
FIRST, SECOND, SHOWN = "dped-study-first", "dped-study-second", "dped-study-shown"

#: CSS pixels. In a narrower window the pictures are stacked.
NARROW = 700

#: An HTML element with the style sheet. The script sets --dped-width; without it, the pictures fill their columns.
STYLE = f"""<style>
.dped-study, .dped-study-entrance {{
  --jp-widgets-font-size: 18px; --jp-widgets-inline-height: 44px; --jp-widgets-inline-width-short: auto;
  --jp-code-font-size: 18px; font-size: 18px; line-height: 1.45; margin: 0 auto; box-sizing: border-box; width: 100%;
  overflow: visible;
}}
.dped-study {{ align-items: center; }}
.dped-study-entrance {{ max-width: 40em; padding: 8px; }}
.dped-study .widget-html-content, .dped-study-entrance .widget-html-content {{
  font-size: 18px; line-height: 1.45; white-space: normal;
}}
.dped-study .widget-html, .dped-study-entrance .widget-html {{ height: auto; }}
.dped-study .jupyter-button, .dped-study-entrance .jupyter-button {{
  font-size: 18px; height: 44px; line-height: 42px; width: auto; padding: 0 18px; border-radius: 6px; flex: 0 0 auto;
}}
.dped-study-entrance .widget-text, .dped-study-entrance .widget-text input {{ font-size: 18px; height: 44px; }}
.dped-study-entrance .widget-text {{ flex: 1 1 auto; max-width: 20em; min-width: 0; }}
.dped-study-top {{ align-items: center; width: 100%; max-width: 40em; overflow: hidden; gap: 8px; }}
.dped-study-top .widget-html {{ flex: 0 0 auto; }}
.dped-study-top .widget-hprogress {{ flex: 1 1 4em; width: auto; min-width: 3em; height: 12px; }}
.dped-study-message {{ text-align: center; margin: 2px 0 6px; }}
.dped-study-pair {{ justify-content: center; gap: 8px; overflow: visible; width: 100%; }}
.dped-study-pair > .widget-vbox {{ align-items: center; flex: 0 1 auto; min-width: 0; overflow: visible; }}
.dped-study-pair img {{
  width: var(--dped-width, auto); max-width: 100%; height: auto; margin: 0; cursor: pointer; touch-action: manipulation;
}}
.dped-study-pair .jupyter-button {{ align-self: stretch; margin: 4px 0 0; touch-action: manipulation; }}
.dped-study .jupyter-button:focus-visible {{ outline: 3px solid #0072B2; }}
.{SHOWN}, .dped-study-style {{ display: none !important; }}
@media (hover: hover) {{
  .{FIRST}::after {{ content: ": key 1 or \\2190"; }}
  .{SECOND}::after {{ content: ": key 2 or \\2192"; }}
}}
@media (hover: none) {{ .dped-study-keyboard {{ display: none; }} }}
@media (max-width: {NARROW - 0.02}px) {{
  .dped-study-pair {{ flex-direction: column; align-items: center; }}
  .dped-study-pair .jupyter-button {{ height: 36px; line-height: 34px; }}
}}
/* The page that Voila serves. */
body[data-voila] #rendered_cells .jp-Cell, body[data-voila] #rendered_cells .jp-Cell-outputWrapper,
body[data-voila] #rendered_cells .jp-OutputArea-output {{ padding: 0; margin: 0; }}
body[data-voila] #rendered_cells .jp-OutputPrompt {{ display: none; }}
body[data-voila] #rendered_cells > div {{
  display: flex; flex-direction: column; justify-content: center; min-height: 100%;
}}
body[data-voila] {{ padding: 8px; margin: 0; box-sizing: border-box; }}
</style>"""

#: Keys and clicks press the buttons, and the page sends the kernel nothing else but the size. If the cell runs again,
#: there is still one listener. It is on the window and captures the keys first, because JupyterLab would turn the cell
#: into a heading.
SCRIPT = """
(() => {
  if (window.dpedStudyKeys) return;
  window.dpedStudyKeys = true;
  const side = {"1": "FIRST", "ArrowLeft": "FIRST", "2": "SECOND", "ArrowRight": "SECOND"};
  window.addEventListener("keydown", event => {
    const entrance = event.key === "Enter" && event.target.closest && event.target.closest(".dped-study-entrance");
    if (entrance && event.target.matches("input")) entrance.querySelector("button").click();
    if (!side[event.key] || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const button = document.querySelector("." + side[event.key] + ":not([disabled])");
    const page = button && button.closest(".dped-study");
    const focus = document.activeElement;
    if (!page || (focus && focus !== document.body && !page.contains(focus))) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    button.click();
  }, true);
  window.addEventListener("click", event => {
    const page = event.target.closest && event.target.closest(".dped-study");
    if (!page) return;
    if (!page.contains(document.activeElement)) {
      page.tabIndex = -1;
      page.style.outline = "none";
      page.focus({preventScroll: true});
    }
    if (event.target.matches(".dped-study-pair img")) event.target.parentElement.querySelector("button").click();
  });
  const fit = page => {
    const pictures = [...page.querySelectorAll(".dped-study-pair img")], first = pictures[0];
    if (pictures.length < 2 || !first.naturalWidth || !first.offsetParent) return;
    const stacked = window.innerWidth < NARROW, count = stacked ? 2 : 1, gap = 8;
    const pair = first.closest(".dped-study-pair");
    // In a notebook the page scrolls with the cells around it, and alone it has the whole window.
    const view = page.closest(".jp-WindowedPanel-outer") || document.documentElement;
    const alone = document.querySelector("body[data-voila] #rendered_cells");
    const edge = side => parseFloat(getComputedStyle(alone)["padding" + side]);
    const around = alone ? edge("Top") + edge("Bottom") : 0;
    const rest = page.offsetHeight - count * first.offsetHeight + around;
    const wide = stacked ? pair.clientWidth : (pair.clientWidth - gap) / 2;
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
    if (!field || field.value === said) return;
    field.value = said;
    field.dispatchEvent(new Event("input", {bubbles: true}));
  };
  const all = () => document.querySelectorAll(".dped-study").forEach(fit);
  document.addEventListener("load", event => {
    const page = event.target.closest && event.target.closest(".dped-study");
    if (page) fit(page);
  }, true);
  window.addEventListener("resize", all);
  // A picture that loads before the page shows it reports nothing here, and JupyterLab resizes without an event.
  setInterval(all, 200);
})();
"""
for _name, _value in (("FIRST", FIRST), ("SECOND", SECOND), ("SHOWN", SHOWN), ("NARROW", str(NARROW))):
    SCRIPT = SCRIPT.replace(_name, _value)
