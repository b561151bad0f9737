"""Lay out the page of a subject in the browser: its style sheet. ``page_script`` measures the window.

Both pictures get the same size, the largest that fits into the window: side by side, or one above the other in an
upright window of less than 700 CSS pixels. In a window that is wider than high, they are larger side by side. A pixel
of the picture never covers more than one CSS pixel. A dense screen has several pixels in a CSS pixel, and only there a
picture is enlarged.
"""

#: CSS classes of the buttons of the first and second picture, and of the field that tells the kernel the size.
FIRST, SECOND, SHOWN = "dped-study-first", "dped-study-second", "dped-study-shown"

#: CSS classes of the button that takes a subject's name, of the one that says that a taken name is the subject's own, of
#: the field with the name that the kernel has accepted, of the field with the name that this browser remembers, and of the
#: button that goes on with that name.
BEGIN, CONFIRM, ACCEPTED = "dped-study-begin", "dped-study-confirm", "dped-study-accepted"
REMEMBERED, GO_ON = "dped-study-remembered", "dped-study-go-on"

#: CSS classes of a page that shows two pictures, of one that takes an answer now, of one with nothing left to ask, of
#: the picture that the subject has just chosen, and of the notice of a lost connection.
ASKING, OPEN, DONE = "dped-study-asking", "dped-study-open", "dped-study-done"
CHOSEN, LOST = "dped-study-chosen", "dped-study-lost"

#: CSS pixels. In a narrower upright window the pictures are stacked. In a lower window that is wider than high, the question
#: shares a line with the count, if the window has the width of the third number.
NARROW, LOW, LINE = 700, 500, 480

#: The windows in which the pictures are stacked. The script asks it, too.
STACKED = f"(max-width: {NARROW - 0.02}px) and (orientation: portrait)"

#: An HTML element with the style sheet. The script sets ``--dped-width``; without it, the pictures fill their columns.
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
  -webkit-tap-highlight-color: transparent;
}}
.{CHOSEN} img {{ outline: 4px solid #0072B2; outline-offset: -4px; }}
.dped-study-pair .jupyter-button {{ align-self: stretch; margin: 4px 0 0; touch-action: manipulation; }}
.dped-study .jupyter-button:focus-visible, .dped-study-entrance .jupyter-button:focus-visible,
.dped-study-entrance .widget-text input[type="text"]:focus {{
  outline: 3px solid #0072B2 !important;  /* The style of the widgets forbids it. */
}}
/* A pointer that rests where "Begin" was, or where a finger last tapped, would raise one of the two buttons. That would
   favour a side. */
.dped-study-pair .jupyter-button:hover {{ box-shadow: none; }}
/* A tap leaves the focus on its button. A ring there would look as if the next picture were chosen already. */
.dped-study .jupyter-button:focus:not(:focus-visible) {{ outline: none; box-shadow: none; }}
.dped-study-entrance .{GO_ON}, .dped-study-entrance .{CONFIRM} {{
  height: auto; min-height: 44px; line-height: 1.45; padding: 8px 18px; white-space: normal; align-self: flex-start;
}}
.dped-study-entrance .{GO_ON} {{ margin-bottom: 16px; }}
.dped-study-entrance .{CONFIRM} {{ margin-top: 16px; }}
.{LOST} {{
  position: fixed; inset: 0; z-index: 1000; display: flex; align-items: center; justify-content: center; padding: 24px;
  background: rgba(255, 255, 255, 0.95); color: #222; font: 20px/1.45 sans-serif; text-align: center;
}}
.{SHOWN}, .{ACCEPTED}, .{REMEMBERED}, .dped-study-style {{ display: none !important; }}
@media (hover: hover) {{
  .{FIRST}::after {{ content: ": key 1 or \\2190"; }}
  .{SECOND}::after {{ content: ": key 2 or \\2192"; }}
}}
@media (hover: none) {{
  .dped-study-keyboard {{ display: none; }}
}}
/* Where the pictures are stacked, none is the left one. */
@media (hover: hover) and {STACKED} {{
  .{FIRST}::after {{ content: ": key 1"; }}
  .{SECOND}::after {{ content: ": key 2"; }}
}}
@media (max-width: {NARROW - 0.02}px) {{
  .dped-study-entrance h2 {{ font-size: 22px; }}
}}
/* A button between two pictures belongs to the upper one. So it is close to that one and far from the next. */
.dped-study-stacked {{ display: none; }}
@media {STACKED} {{
  .dped-study-beside {{ display: none; }}
  .dped-study-stacked {{ display: inline; }}
  .dped-study-pair {{ flex-direction: column; align-items: center; gap: 24px; }}
  .dped-study-pair .jupyter-button {{ margin-top: 2px; }}
}}
/* A finger that misses "Pause" must not answer. So the pictures begin well below it. */
@media (min-width: {LINE}px) and (max-height: {LOW}px) and (orientation: landscape) {{
  .{ASKING} .dped-study-top .widget-hprogress {{ visibility: hidden; }}
  .{ASKING} .dped-study-message {{ margin-top: -38px; margin-bottom: 22px; pointer-events: none; }}
}}
@media (hover: hover) and (max-height: {LOW}px) {{
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
