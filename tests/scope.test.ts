/** Who frees what: scopes, `using`, views on one storage, disposed tensors, the finalizer. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keep, ReferenceDevice, scope, type Tensor, tensor, zeros } from "../tensor/mod.ts";
import { canCollect, collectGarbage } from "./support/garbage.ts";
import { leftBehind, onDevices } from "./tiny_model.ts";

const flat = (t: Tensor): number[] => [...t.dataSync()];

describe("scope", () => {
  onDevices("keeps what it returns, in arrays, maps and objects, and frees the rest", (device) => {
    const live = device.liveBuffers;
    const made = scope(() => {
      const x = tensor([1, 2]);
      x.add(1).mul(3);
      return { list: [x.mul(2)], map: new Map([["b", x.mul(3)]]), deep: { x: [[x.neg()]] } };
    });
    assert.equal(device.liveBuffers - live, 3);
    assert.deepEqual(flat(made.list[0]!), [2, 4]);
    assert.deepEqual(flat(made.map.get("b")!), [3, 6]);
    assert.deepEqual(flat(made.deep.x[0]![0]!), [-1, -2]);
    for (const t of [made.list[0]!, made.map.get("b")!, made.deep.x[0]![0]!]) t.dispose();
    assert.equal(device.liveBuffers, live);
  });

  onDevices("hands what it returns to the scope around it", async (device) => {
    let inner: Tensor | undefined;
    const left = await leftBehind(device, () => {
      const total = scope(() => {
        inner = scope(() => tensor([1]).add(tensor([2])));
        assert.ok(!inner.disposed);
        return inner.item();
      });
      assert.equal(total, 3);
    });
    assert.equal(left, 0);
    assert.ok(inner!.disposed);
  });

  onDevices("does not free what is given to keep, however deep", async (device) => {
    const kept: Tensor[] = [];
    const body = () =>
      scope(() => {
        scope(() => kept.push(keep(tensor([7]))));
        tensor([8]);
      });
    assert.equal(await leftBehind(device, body), 1);
    assert.deepEqual(flat(kept[0]!), [7]);
    kept[0]!.dispose();
  });

  onDevices("frees everything when its body throws", async (device) => {
    const body = () => {
      scope(() => {
        const x = tensor([1, 2]).requireGrad();
        scope(() => x.exp().mul(x).sum());
        x.reshape([3]);
      });
    };
    assert.equal(await leftBehind(device, () => assert.throws(body, /reshape/)), 0);
    // The stack of scopes is whole again: what is made now belongs to nobody.
    const after = tensor([1]);
    assert.equal(
      scope(() => after.item()),
      1,
    );
    assert.ok(!after.disposed);
  });

  onDevices("refuses an asynchronous body, and frees what that made", async (device) => {
    const body = async () => tensor([1]);
    const left = await leftBehind(device, () => {
      assert.throws(() => scope(body), /scope: the body is asynchronous; do the waiting outside/);
    });
    assert.equal(left, 0);
  });

  onDevices("frees the graph of a loss whose gradients are read", async (device) => {
    const w = tensor([1, 2]).requireGrad();
    const step = () =>
      scope(() => {
        w.exp().mul(w).sum().backward();
        w.grad = undefined;
      });
    step();
    assert.equal(await leftBehind(device, step), 0);
  });
});

describe("using", () => {
  onDevices("frees at the end of the block", async (device) => {
    const block = () => {
      using x = tensor([1, 2]);
      using y = x.mul(2);
      assert.deepEqual(flat(y), [2, 4]);
    };
    assert.equal(await leftBehind(device, block), 0);
  });

  onDevices("dispose may be called twice", (device) => {
    const live = device.liveBuffers;
    const x = tensor([1]);
    x.dispose();
    x.dispose();
    assert.equal(device.liveBuffers, live);
  });
});

describe("views", () => {
  onDevices("share one buffer, which lives until the last of them is freed", (device) => {
    const live = device.liveBuffers;
    const x = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const views = [
      x.transpose(),
      x.reshape([3, 2]),
      x.slice([null, [1, 3]]),
      x.expand([4, 2, 3]),
      x.detach(),
    ];
    assert.equal(device.liveBuffers, live + 1);
    for (const view of views) assert.equal(view.storage, x.storage);
    x.dispose();
    assert.equal(device.liveBuffers, live + 1);
    assert.deepEqual(flat(views[0]!), [1, 4, 2, 5, 3, 6]);
    assert.deepEqual(flat(views[2]!), [2, 3, 5, 6]);
    for (const view of views) view.dispose();
    assert.equal(device.liveBuffers, live);
  });

  onDevices("show what is written in place through another of them", () => {
    const cache = zeros([1, 1, 3, 2]);
    const seen = cache.slice([null, null, [1, 3]]);
    const place = tensor([[1]], [1, 1], { dtype: "i32" });
    cache.writeRows(tensor([5, 6], [1, 1, 1, 2]), place);
    assert.deepEqual(flat(seen), [5, 6, 0, 0]);
    assert.throws(
      () => cache.transpose().writeRows(tensor([5, 6, 7], [1, 1, 1, 3]), place),
      /writeRows: writes input 0 in place, which must be packed/,
    );
  });

  onDevices("are copied only where no strides can show the result", (device) => {
    const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    const live = device.liveBuffers;
    const copied = x.transpose().reshape([6]);
    assert.equal(device.liveBuffers, live + 1);
    assert.deepEqual(flat(copied), [1, 4, 2, 5, 3, 6]);
    assert.equal(x.transpose().contiguous().storage === x.storage, false);
  });
});

describe("a disposed tensor", () => {
  onDevices("is refused with its shape and the way out", () => {
    const x = tensor([
      [1, 2],
      [3, 4],
    ]);
    x.dispose();
    const message = /tensor \[2 2\] was disposed: return it from its scope, or keep\(\) it/;
    for (const use of [() => x.add(1), () => x.dataSync(), () => x.transpose(), () => x.detach()]) {
      assert.throws(use, message);
    }
    assert.match(String(x), /Tensor f32 \[2 2\] on \w+: disposed/);
  });

  onDevices("may still be needed by the tape, which holds its values itself", () => {
    const x = tensor([2, 3]).requireGrad();
    const y = x.square();
    const loss = y.mul(y).sum();
    y.dispose();
    loss.backward();
    assert.deepEqual(flat(x.grad!), [32, 108]);
  });
});

const withoutCollector = "this runtime offers no way to ask for a garbage collection";
test("the finalizer frees tensors and graphs that nobody can reach", {
  skip: canCollect ? false : withoutCollector,
}, async () => {
  const device = new ReferenceDevice();
  const leaf = tensor([1, 2, 3], [3], { device }).requireGrad();
  const litter = () => {
    for (let i = 0; i < 50; i++) leaf.mul(i).exp().square();
  };
  litter();
  assert.ok(device.liveBuffers > 100);
  await collectGarbage(() => device.liveBuffers === 1);
  assert.equal(device.liveBuffers, 1);
  assert.deepEqual(flat(leaf), [1, 2, 3]);
});
