/**
 * Whether a regular expression takes time in proportion to its input, whatever that is. An expression that backtracks takes
 * more when two of its loops, the search for its beginning being one, can read the same text: of n characters each can then
 * be given to either. This is decided on its position automaton (Glushkov), for the forms that `src` uses; any other is
 * refused.
 */

/** Characters of every class that an expression may name: all bytes, and what case folding and `\p` reach beyond them. */
const alphabet = [
  ...Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)),
  "\u017f",
  "\u212a",
  "\u2028",
  "\ufeff",
  "\ud800",
  "\uffff"
]

/** What a part of an expression may read first and last, and whether it may read nothing. */
interface Part {
  readonly first: ReadonlyArray<number>
  readonly last: ReadonlyArray<number>
  readonly nullable: boolean
}

class Unsupported extends Error {}

class Automaton {
  /** The characters that a position reads; none for the end of the text. */
  readonly reads: Array<ReadonlySet<number>> = []
  readonly follow: Array<Set<number>> = []
  /** Whether two loops lead from one position to another: `(a+)+`. */
  nested = false
  private at = 0
  private readonly source: string
  private readonly flags: string

  constructor(source: string, flags: string) {
    this.source = source
    this.flags = flags.replace(/[gyd]/g, "")
  }

  parse(): ReadonlyArray<{ readonly anchored: boolean; readonly part: Part }> {
    const alternatives = [this.top()]
    while (this.take("|")) alternatives.push(this.top())
    if (this.at < this.source.length) throw new Unsupported(`at ${this.at}`)
    return alternatives
  }

  private top() {
    const anchored = this.take("^")
    return { anchored, part: this.sequence() }
  }

  private take(text: string): boolean {
    if (!this.source.startsWith(text, this.at)) return false
    this.at += text.length
    return true
  }

  private link(from: ReadonlyArray<number>, to: ReadonlyArray<number>, loop: boolean): void {
    for (const position of from) {
      for (const next of to) {
        if (loop && this.follow[position].has(next)) this.nested = true
        this.follow[position].add(next)
      }
    }
  }

  private sequence(): Part {
    let whole: Part = { first: [], last: [], nullable: true }
    while (this.at < this.source.length && !"|)".includes(this.source[this.at])) {
      const next = this.quantified()
      this.link(whole.last, next.first, false)
      whole = {
        first: whole.nullable ? [...whole.first, ...next.first] : whole.first,
        last: next.nullable ? [...whole.last, ...next.last] : next.last,
        nullable: whole.nullable && next.nullable
      }
    }
    return whole
  }

  private quantified(): Part {
    const start = this.at
    let part = this.atom()
    const end = this.at
    const count = /^(?:[*+?]|\{\d+(?:,\d*)?\})/.exec(this.source.slice(this.at))?.[0]
    if (count === undefined) return part
    this.at += count.length
    this.take("?")
    const after = this.at
    const [least, most] = count === "*"
      ? [0, Infinity]
      : count === "+"
      ? [1, Infinity]
      : count === "?"
      ? [0, 1]
      : count.includes(",")
      ? [Number(count.slice(1).split(",")[0]), Number(count.slice(0, -1).split(",")[1] || Infinity)]
      : [Number(count.slice(1, -1)), Number(count.slice(1, -1))]
    const loop = most === Infinity
    const copies = loop ? Math.max(1, least) : most
    if (copies > 32) throw new Unsupported(count)
    let whole: Part = { first: [], last: [], nullable: true }
    for (let copy = 0; copy < copies; copy++) {
      if (copy > 0) {
        this.at = start
        part = this.atom()
        if (this.at !== end) throw new Unsupported(count)
      }
      this.link(whole.last, part.first, false)
      const nullable = part.nullable || copy >= least
      whole = {
        first: whole.nullable ? [...whole.first, ...part.first] : whole.first,
        last: nullable ? [...whole.last, ...part.last] : part.last,
        nullable: whole.nullable && nullable
      }
    }
    this.at = after
    if (loop) this.link(part.last, part.first, true)
    return whole
  }

  private atom(): Part {
    if (this.take("$")) return this.position(new Set())
    if (this.take("(")) {
      if (this.source[this.at] === "?" && !this.take("?:")) throw new Unsupported("lookaround or a named group")
      const parts = [this.sequence()]
      while (this.take("|")) parts.push(this.sequence())
      if (!this.take(")")) throw new Unsupported("a group without end")
      return {
        first: parts.flatMap((part) => part.first),
        last: parts.flatMap((part) => part.last),
        nullable: parts.some((part) => part.nullable)
      }
    }
    const text = /^(?:\[(?:\\.|[^\]\\])*\]|\\p\{\w+\}|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\.|[^\\^$])/s
      .exec(this.source.slice(this.at))?.[0]
    if (text === undefined || /^\\[1-9bBkcP]/.test(text)) throw new Unsupported(text ?? this.source.slice(this.at))
    this.at += text.length
    const one = new RegExp(`^${text}$`, this.flags)
    return this.position(new Set(alphabet.flatMap((character, code) => one.test(character) ? [code] : [])))
  }

  private position(reads: ReadonlySet<number>): Part {
    this.follow.push(new Set())
    const at = this.reads.push(reads) - 1
    return { first: [at], last: [at], nullable: false }
  }
}

const lineEnds = new Set(["\n", "\r", "\u2028"].map((character) => alphabet.indexOf(character)))

/** Why an expression may take more than linear time, or is none of the forms that can be judged; `undefined` if it is linear. */
export const objection = (expression: RegExp): string | undefined => {
  const automaton = new Automaton(expression.source, expression.flags)
  const { follow, reads } = automaton
  let alternatives: ReturnType<Automaton["parse"]>
  try {
    alternatives = automaton.parse()
  } catch (error) {
    if (error instanceof Unsupported) return `is of no form that can be judged: ${error.message}`
    throw error
  }
  if (automaton.nested) return "has a loop in a loop"
  // Once here, the expression has matched, and nothing is tried again.
  const matched = new Set(alternatives.flatMap(({ part }) => part.last.filter((position) => reads[position].size > 0)))
  // The search for the beginning is one more loop, whose last step may have to be the end of a line.
  const all = new Set(alphabet.keys())
  const search = reads.push(all) - 1
  const line = reads.push(lineEnds) - 1
  follow.push(new Set([search, line]), new Set([search, line]))
  for (const { anchored, part } of alternatives) {
    for (const position of part.first) {
      if (!anchored) follow[search].add(position)
      if (!anchored || expression.multiline) follow[line].add(position)
    }
  }
  const entry = alternatives.flatMap(({ part }) => part.first)
  const sticky = expression.sticky || alternatives.every(({ anchored }) => anchored) && !expression.multiline
  const states = reachable(follow, sticky ? entry : [search, line, ...entry]).filter((state) => !matched.has(state))
  const index = new Map(states.map((state, i) => [state, i]))
  const successors = states.map((state) => Array.from(follow[state]).filter((next) => index.has(next)))
  // Classes of characters that all positions treat alike.
  const letters = Array.from(
    new Map(Array.from(all, (code) => [states.map((state) => reads[state].has(code) ? 1 : 0).join(""), code])).values()
  )
  const step = (state: number, letter: number) =>
    successors[index.get(state)!].filter((next) => reads[next].has(letter))
  const isSearch = (state: number) => state === search || state === line
  // Only what leads back to itself is a loop.
  const loops = states.filter((state) =>
    reachable(successorsOf(follow, index), Array.from(follow[state]).filter((next) => index.has(next))).includes(state)
  )
  // Two loops p and q that read the same text v, which also leads from p to q.
  for (const p of loops) {
    for (const q of loops) {
      if (p === q || isSearch(p) && isSearch(q)) continue
      const seen = new Set<string>()
      const todo: Array<readonly [number, number, number]> = [[p, p, q]]
      for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
        for (const letter of letters) {
          for (const a of step(next[0], letter)) {
            for (const b of step(next[1], letter)) {
              for (const c of step(next[2], letter)) {
                if (a === p && b === q && c === q) return "has two loops that can read the same text"
                const key = `${a} ${b} ${c}`
                if (!seen.has(key)) {
                  seen.add(key)
                  todo.push([a, b, c])
                }
              }
            }
          }
        }
      }
    }
  }
  return undefined
}

const successorsOf = (follow: ReadonlyArray<ReadonlySet<number>>, kept: ReadonlyMap<number, number>) =>
  follow.map((next) => new Set(Array.from(next).filter((state) => kept.has(state))))

const reachable = (follow: ReadonlyArray<ReadonlySet<number>>, from: ReadonlyArray<number>): ReadonlyArray<number> => {
  const seen = new Set(from)
  for (const state of seen) for (const next of follow[state]) seen.add(next)
  return Array.from(seen)
}
