// The packages from npm. They do not lie beside the tests, but where .ci/browser has put them.
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.KEEPSAKE_BROWSER_TOOLS}/`);
export const { chromium } = require('playwright-core');
export const axe = require('axe-core');
