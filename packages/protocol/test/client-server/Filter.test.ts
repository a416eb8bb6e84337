import { assert, describe, it } from "@effect/vitest"
import { compileFilter } from "../../src/client-server/Filter.ts"
import type { Event } from "../../src/Event.ts"

const passes = (types: ReadonlyArray<string>, type: string): boolean =>
  compileFilter({ types })({ type, sender: "@a:b.c", room_id: "!a:b.c", content: {} } as unknown as Event)

describe("filters of types", () => {
  it("match a type as it is, with a question mark too", () => {
    assert.isTrue(passes(["org.example.why?"], "org.example.why?"))
    assert.isFalse(passes(["org.example.why?"], "org.example.why1"))
  })

  it("match any characters where they have an asterisk", () => {
    assert.isTrue(passes(["m.room.*"], "m.room.message"))
    assert.isFalse(passes(["m.room.*"], "m.reaction"))
  })
})
