/**
 * A binary heap: `pop` takes the smallest item by `compare`, each in logarithmic time.
 */
export class PriorityQueue<A> {
  readonly #items: Array<A> = []
  readonly #compare: (a: A, b: A) => number

  constructor(compare: (a: A, b: A) => number) {
    this.#compare = compare
  }

  push(item: A): void {
    const items = this.#items
    let at = items.push(item) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (this.#compare(items[parent]!, item) <= 0) break
      items[at] = items[parent]!
      at = parent
    }
    items[at] = item
  }

  /** The smallest item, removed; undefined when there is none. */
  pop(): A | undefined {
    const items = this.#items
    const top = items[0]
    const last = items.pop()
    if (items.length === 0 || last === undefined) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= items.length) break
      if (child + 1 < items.length && this.#compare(items[child + 1]!, items[child]!) < 0) child++
      if (this.#compare(last, items[child]!) <= 0) break
      items[at] = items[child]!
      at = child
    }
    items[at] = last
    return top
  }
}
