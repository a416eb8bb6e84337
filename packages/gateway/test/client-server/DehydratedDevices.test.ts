import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

const path = "/unstable/org.matrix.msc3814.v1/dehydrated_device"

const device = (user: TestUser, device_id: string) => ({
  device_id,
  device_data: { algorithm: "m.dehydration.v2", device_pickle: "sealed", nonce: "n" },
  initial_device_display_name: "Dehydrated",
  device_keys: {
    user_id: user.id,
    device_id,
    dehydrated: true,
    algorithms: ["m.olm.v1.curve25519-aes-sha2"],
    keys: { [`curve25519:${device_id}`]: "key" },
    signatures: {}
  },
  one_time_keys: { "signed_curve25519:A": { key: "one", signatures: {} } },
  fallback_keys: { "signed_curve25519:F": { key: "last", fallback: true, signatures: {} } }
})

layer(gateway, { excludeTestServices: true })("dehydrated devices", (it) => {
  it.effect("receive to-device messages, which the next client of the user reads in pages", () =>
    Effect.gen(function* () {
      const alice = yield* register("dry-alice")
      const bob = yield* register("dry-bob")
      assert.strictEqual((yield* as(alice)("GET", path)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("PUT", path, device(alice, "dry1"))).body.device_id, "dry1")
      const found = yield* as(alice)("GET", path)
      assert.deepStrictEqual(found.body.device_data, device(alice, "dry1").device_data as never)
      const { body } = yield* as(bob)("POST", "/v3/keys/query", { device_keys: { [alice.id]: [] } })
      const keys = (body.device_keys as Record<string, Record<string, { dehydrated?: boolean }>>)[alice.id]
      assert.isTrue(keys?.dry1?.dehydrated)
      for (let n = 0; n < 150; n++) {
        yield* as(bob)("PUT", `/v3/sendToDevice/org.example.key/${n}`, { messages: { [alice.id]: { dry1: { n } } } })
      }
      const read: Array<number> = []
      let next: string | undefined = ""
      while (next !== undefined) {
        const page = (yield* as(alice)("GET", `${path}/dry1/events${next === "" ? "" : `?from=${next}`}`)).body
        read.push(...(page.events as ReadonlyArray<{ content: { n: number } }>).map(({ content }) => content.n))
        next = page.next_batch as string | undefined
      }
      assert.deepStrictEqual(
        read,
        Array.from({ length: 150 }, (_, n) => n)
      )
      const again = yield* as(alice)("POST", `${path}/dry1/events`, {})
      assert.strictEqual((again.body.events as ReadonlyArray<unknown>).length, 100)
      assert.strictEqual((yield* as(bob)("GET", `${path}/dry1/events`)).body.errcode, "M_FORBIDDEN")
    })
  )

  it.effect("replace each other, and never the device of a client", () =>
    Effect.gen(function* () {
      const alice = yield* register("one-alice")
      const own = (yield* as(alice)("GET", "/v3/account/whoami")).body.device_id as string
      assert.strictEqual((yield* as(alice)("PUT", path, device(alice, own))).body.errcode, "M_FORBIDDEN")
      yield* as(alice)("PUT", path, device(alice, "first"))
      yield* as(alice)("PUT", path, device(alice, "second"))
      const ids = Effect.map(as(alice)("GET", "/v3/devices"), ({ body }) =>
        (body.devices as ReadonlyArray<{ device_id: string }>).map(({ device_id }) => device_id)
      )
      assert.sameMembers(yield* ids, [own, "second"])
      assert.strictEqual((yield* as(alice)("GET", `${path}/${inPath("first")}/events`)).body.errcode, "M_FORBIDDEN")
      const wrong = { ...device(alice, "second"), one_time_keys: { "no key": {} } }
      assert.strictEqual((yield* as(alice)("PUT", path, wrong)).body.errcode, "M_INVALID_PARAM")
      assert.sameMembers(yield* ids, [own, "second"])
      assert.strictEqual((yield* as(alice)("DELETE", path)).body.device_id, "second")
      assert.deepStrictEqual(yield* ids, [own])
      assert.strictEqual((yield* as(alice)("GET", path)).body.errcode, "M_NOT_FOUND")
    })
  )
})
