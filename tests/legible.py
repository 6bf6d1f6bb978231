"""What of a page cannot be read: texts that are cut off by what they stand in, fields too narrow for their words."""

import json

CUT_TEXTS = """(selector => {
  const found = new Set(), UNSEEN = 'script, style, option, textarea, svg';
  const ctx = document.createElement('canvas').getContext('2d');
  const width = (text, style) => {
    ctx.font = style.font;
    return ctx.measureText(text).width;
  };
  const room = (e, style) => e.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const shown = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && e.clientHeight !== 1;
  const hides = value => value !== 'visible';
  for (const root of document.querySelectorAll(selector)) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      const parent = text.parentElement;
      if (!text.textContent.trim() || parent.closest(UNSEEN) || !shown(parent)) continue;
      const range = document.createRange();
      range.selectNodeContents(text);
      const boxes = [...range.getClientRects()].filter(b => b.width > 1);
      let down = true; // until something scrolls up and down
      for (let e = parent; e && e !== document.body; e = e.parentElement) {
        const style = getComputedStyle(e), b = e.getBoundingClientRect();
        if (style.display === 'inline' || style.display === 'contents') continue;
        if (hides(style.overflowX) && boxes.some(t => t.right > b.right + 2 || t.left < b.left - 2))
          found.add(text.textContent.trim());
        if (['auto', 'scroll'].includes(style.overflowY)) down = false;
        if (down && hides(style.overflowY) && boxes.some(t => t.bottom > b.bottom + 4 || t.top < b.top - 4))
          found.add(text.textContent.trim());
        if (e === root) break;
      }
    }
    for (const e of root.querySelectorAll('input, select, textarea')) {
      if (!shown(e) || ['checkbox', 'radio', 'range', 'file', 'hidden'].includes(e.type)) continue;
      const style = getComputedStyle(e);
      const words = e.tagName === 'SELECT' ? e.selectedOptions[0]?.text : e.value || e.placeholder;
      if (e.tagName === 'TEXTAREA' ? e.scrollWidth > e.clientWidth + 1 : width(words ?? '', style) > room(e, style) + 2)
        found.add(words);
    }
  }
  return [...found];
})(%s)"""
"""Texts below the elements that a CSS selector finds which can't be read to their end without scrolling sideways."""


def cut_texts(browser, selector: str) -> list[str]:
    """Texts in a page that are cut off, below what a CSS selector finds; at least one element must be there."""
    assert browser.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"), f"nothing is {selector}"
    return browser.evaluate(CUT_TEXTS % json.dumps(selector))
