/**
 * A list that an element is added to and taken out of in constant time, wherever it stands. An element is in one list at most.
 *
 * What comes and goes with connections and requests is in such lists, and not in a `Set` or a `Map`. When V8 makes a new table for
 * one of those, the old table keeps its entries and points to the new one. A collection of the young generation takes old tables
 * that have grown old for alive, and with them every later one and all that was ever in them: with a connection a request, 2.5 KB a
 * request, until the next full collection. bench/NOTES.md has the figures.
 */

/** What may be in a list of its kind. Only the list writes these fields. */
export abstract class Linked<Element extends Linked<Element>> {
  list: LinkedList<Element> | undefined
  before: Element | undefined
  after: Element | undefined
}

/** A place in a list for what has no fields for it. */
export class LinkedItem<A> extends Linked<LinkedItem<A>> {
  readonly value: A

  constructor(value: A) {
    super()
    this.value = value
  }
}

export class LinkedList<Element extends Linked<Element>> {
  first: Element | undefined
  last: Element | undefined
  size = 0

  /** Adds an element at the end. It leaves the list that it was in. */
  push(element: Element): void {
    element.list?.remove(element)
    element.list = this
    element.before = this.last
    if (this.last === undefined) this.first = element
    else this.last.after = element
    this.last = element
    this.size++
  }

  /** Adds an element at the front. It leaves the list that it was in. */
  unshift(element: Element): void {
    element.list?.remove(element)
    element.list = this
    element.after = this.first
    if (this.first === undefined) this.last = element
    else this.first.before = element
    this.first = element
    this.size++
  }

  /** The elements, as they are now: who is called for one may take others out. */
  toArray(): Array<Element> {
    const elements: Array<Element> = []
    for (let element = this.first; element !== undefined; element = element.after) elements.push(element)
    return elements
  }

  /** Takes an element out. Nothing happens when it is not in this list. */
  remove(element: Element): void {
    if (element.list !== this) return
    const { after, before } = element
    if (before === undefined) this.first = after
    else before.after = after
    if (after === undefined) this.last = before
    else after.before = before
    element.list = undefined
    element.before = undefined
    element.after = undefined
    this.size--
  }
}
