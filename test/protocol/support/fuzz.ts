/**
 * How much the fuzz tests play, and what they play again.
 *
 * `FUZZ_CASES` is the number of cases of bytes that are decoded; whole connections, which take longer, are a fraction of it.
 * By default it is 300,000 with `CI=true`, and a third of that otherwise: the same on every run. More of them take
 * more time: `FUZZ_CASES=100000000 npx vitest run fuzz model --testTimeout=0`. A failure names its seed: `FUZZ_SEED=…` with
 * the file's name plays that one alone.
 */
const cases = Number(process.env["FUZZ_CASES"] ?? (process.env["CI"] === "true" ? 300_000 : 100_000))
const only = process.env["FUZZ_SEED"]

/** The seeds to play, from 1 on: one for each `per` cases. */
export const seeds = (per = 1): { readonly first: number; readonly last: number } =>
  only === undefined ? { first: 1, last: Math.ceil(cases / per) } : { first: Number(only), last: Number(only) }

/** The one seed that a test plays which does not play many. */
export const seedOr = (seed: number): number => only === undefined ? seed : Number(only)

/** What a failure says. */
export const replay = (seed: number, file: string): string =>
  `seed ${seed}: play it again with FUZZ_SEED=${seed} npx vitest run test/${file}`
