import { assert, describe, it } from "@effect/vitest"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { depthAfter, type GraphNode, topologicalOrder } from "@greenroom/room/EventGraph"
import * as fc from "fast-check"

const id = (n: number | string): EventId => `$e${n}:one.example` as EventId
const node = (n: number, prev: ReadonlyArray<number>, depth = 1): GraphNode => ({
  event_id: id(n),
  prev_events: prev.map(id),
  auth_events: [],
  depth,
  origin_server_ts: 0
})

/** Random graphs without cycles: every event follows some of those before it. Depths are arbitrary. */
const graphs = fc
  .array(fc.tuple(fc.array(fc.nat(50), { maxLength: 4 }), fc.nat(5), fc.nat(3)), { maxLength: 50 })
  .map((rows) =>
    rows.map(
      ([prev, depth, ts], n): GraphNode => ({
        ...node(n, n === 0 ? [] : [...new Set(prev.map((entry) => entry % n))], depth),
        origin_server_ts: ts
      })
    )
  )

const shuffled = <A>(array: ReadonlyArray<A>) => fc.shuffledSubarray([...array], { minLength: array.length })

describe("depth", () => {
  it("the depth of an event is one more than the greatest depth of its predecessors", () => {
    assert.strictEqual(depthAfter([]), 1)
    assert.strictEqual(depthAfter([{ depth: 3 }, { depth: 7 }]), 8)
  })

  it("the depth stays at the greatest number that JSON can carry", () => {
    const most = Number.MAX_SAFE_INTEGER
    assert.deepStrictEqual(
      [most - 1, most].map((depth) => depthAfter([{ depth }])),
      [most, most]
    )
  })
})

describe("topologicalOrder", () => {
  it("no event comes before its predecessors, and the order does not depend on that of arrival", () => {
    fc.assert(
      fc.property(
        graphs.chain((graph) => fc.tuple(fc.constant(graph), shuffled(graph))),
        ([graph, arrival]) => {
          const order = topologicalOrder(arrival)
          assert.strictEqual(order.length, graph.length)
          const at = new Map(order.map((graphNode, index) => [graphNode.event_id, index]))
          for (const graphNode of graph) {
            for (const prev of graphNode.prev_events) assert.isBelow(at.get(prev)!, at.get(graphNode.event_id)!)
          }
          assert.deepStrictEqual(order, topologicalOrder(graph))
        }
      )
    )
  })

  it("an event comes after its auth events", () => {
    const late = { ...node(1, []), depth: 9 }
    const early = { ...node(2, []), auth_events: [id(1)] }
    assert.deepStrictEqual(topologicalOrder([early, late]), [late, early])
  })

  it("events that do not depend on one another are in order of depth, then time, then event ID", () => {
    const at = (n: number, depth: number, origin_server_ts: number): GraphNode => ({
      ...node(n, [], depth),
      origin_server_ts
    })
    const inOrder = [at(9, 1, 8), at(8, 2, 6), at(1, 2, 7), at(2, 2, 7), at(0, 3, 0)]
    assert.deepStrictEqual(topologicalOrder(inOrder), inOrder)
    assert.deepStrictEqual(topologicalOrder(inOrder.toReversed()), inOrder)
  })

  it("events in cycles, and those that follow them, are left out", () => {
    assert.deepStrictEqual(topologicalOrder([node(1, [2]), node(2, [1]), node(3, [2]), node(4, [99])]), [node(4, [99])])
    assert.deepStrictEqual(topologicalOrder([node(1, [1])]), [])
  })
})
