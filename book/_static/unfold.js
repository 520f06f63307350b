/* The theme lets Tab reach a box that scrolls, and looks for such boxes when the window changes
   its size. What has just been unfolded may scroll as well: make it look again. */
"use strict";
(() => {
  const lookAgain = () => requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
  // Figures scroll on a phone (custom.css); then the arrow keys must reach them as well.
  const reachable = () => {
    for (const box of document.querySelectorAll(".cell_output figure, .cell_output .image_png"))
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
  };
  addEventListener("load", reachable);
  addEventListener("resize", reachable);
  document.addEventListener("toggle", lookAgain, true); // <details>
  document.addEventListener("click", (event) => {
    if (event.target.closest(".toggle-button, .admonition-title")) lookAgain();
  });
})();
