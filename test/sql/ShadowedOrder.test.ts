import * as fs from "node:fs/promises"
import { assert, describe, it } from "@effect/vitest"
import { shadowedOrders } from "./shadowedOrder.ts"

const root = new URL("../../", import.meta.url)

describe("ORDER BY in the sources", () => {
  it("shadowedOrders finds output names that hide a column, and no others", () => {
    const orders = (statement: string) => shadowedOrders(`sql<Row>\`${statement}\``)
    assert.deepStrictEqual(orders("SELECT xid::text AS xid, nid FROM events ORDER BY xid, nid LIMIT 1"), ["xid"])
    assert.deepStrictEqual(orders("SELECT events.xid::text AS xid FROM events ORDER BY nid, xid DESC"), ["xid"])
    assert.deepStrictEqual(orders("SELECT xid::text AS xid FROM events ORDER BY events.xid"), [])
    assert.deepStrictEqual(
      orders("SELECT found.xid::text AS xid FROM (SELECT xid FROM events ORDER BY xid) AS found"),
      []
    )
    assert.deepStrictEqual(orders("INSERT INTO a SELECT xid FROM b ORDER BY nid RETURNING xid::text AS xid"), [])
    assert.deepStrictEqual(orders("SELECT a, (SELECT xid::text AS xid FROM b ORDER BY xid) FROM c"), ["xid"])
  })

  it("no statement of the server orders numbers as text", async () => {
    const found: Array<string> = []
    let files = 0
    for await (const file of fs.glob("{packages,apps}/*/src/**/*.ts", { cwd: root })) {
      files++
      const source = await fs.readFile(new URL(file, root), "utf8")
      for (const name of shadowedOrders(source)) found.push(`${file}: ORDER BY ${name}`)
    }
    assert.isAbove(files, 300)
    assert.deepStrictEqual(found, [])
  })
})
