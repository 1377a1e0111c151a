/**
 * A list that an element is added to and taken out of in constant time, wherever it stands. An element is in one list at most.
 */

/** What may be in a list of its kind. Only the list writes these fields. */
export interface Linked<Element extends Linked<Element>> {
  list: LinkedList<Element> | undefined
  before: Element | undefined
  after: Element | undefined
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
