/**
 * Options from settings of the environment beside those that are given in code.
 */

/** What is given holds before what is set. */
export const withSettings = <Options extends object>(options: Options, settings: Partial<Options>): Options => {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  return { ...options, ...settings, ...given }
}
