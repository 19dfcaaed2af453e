// The browser, and what it is looked at with.
import { chromium } from './tools.mjs';

export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
export const DESK = { viewport: { width: 1280, height: 800 } };

/** Debian's Chromium, which .ci/browser found. Its sandbox is not for root. */
export function launch(options = {}) {
  return chromium.launch({ executablePath: process.env.KEEPSAKE_CHROMIUM, chromiumSandbox: process.getuid() !== 0, ...options });
}
