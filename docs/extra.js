// What the theme leaves out for those who use no mouse or no eyes: a name for the search, and tables
// that scroll by keyboard. document$ is the theme's; it speaks after each page is shown.
document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
