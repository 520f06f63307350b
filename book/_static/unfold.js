/* The theme lets Tab reach a box that scrolls, and looks for such boxes when the window changes
   its size. What has just been unfolded may scroll as well: make it look again. */
"use strict";
(() => {
  const lookAgain = () => requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
  document.addEventListener("toggle", lookAgain, true); // <details>
  document.addEventListener("click", (event) => {
    if (event.target.closest(".toggle-button, .admonition-title")) lookAgain();
  });
})();
