/**
 * `node --import` this, and `effect-fastcgi` means the sources instead of the built package, as in the tests.
 */
import { registerHooks } from "node:module"

registerHooks({
  resolve: (specifier, context, next) => {
    const match = /^effect-fastcgi(?:\/(http|client|node|testing))?$/.exec(specifier)
    if (match === null) return next(specifier, context)
    const folder = match[1] === undefined ? "" : `${match[1]}/`
    return next(new URL(`../../../src/${folder}index.ts`, import.meta.url).href, context)
  }
})
