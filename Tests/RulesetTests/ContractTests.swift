/// One suite for the fake and for the kernel: what one refuses, the other refuses; what the driver does with one, it does with the other.

import Addresses
import Glibc
import KernelSandbox
import NetlinkEdge
import RulesetDriver
import Rulesets
import Testing

enum Place: String, CaseIterable, CustomTestStringConvertible {
  case fake
  case kernel
  var testDescription: String { rawValue }
  static var available: [Place] { KernelSandbox.isAvailable ? allCases : [.fake] }
}

/// A table's surroundings that outlive the process using it.
final class Bench {
  let place: Place
  private(set) var kernel: any RulesetKernel
  private let sandbox = KernelSandbox()
  let namespace: NetworkNamespace?
  private let table: String

  init(_ place: Place, table: String = "margay") throws {
    self.place = place
    self.table = table
    switch place {
    case .fake:
      namespace = nil
      kernel = FakeRuleset(table: table)
    case .kernel:
      let made = try sandbox.namespace("nft")
      namespace = made
      kernel = try NetlinkRuleset(table: table, namespace: made.descriptor.borrowed)
    }
  }
  /// The process ends and starts again.
  func restart() throws {
    if let fake = kernel as? FakeRuleset {
      kernel = fake.successor()
    } else {
      // The old socket closes when its last holder goes; the next one must not be there before.
      kernel = FakeRuleset()
      kernel = try NetlinkRuleset(table: table, namespace: namespace!.descriptor.borrowed)
    }
  }
  func nft(_ arguments: String...) throws -> String { try sandbox.run(namespace!, "nft", arguments) }
}

@Suite("A ruleset in a kernel")
struct ContractTests {
  @Test("Everything written is read back equal, and a second look changes nothing", arguments: Place.available)
  func roundTrip(place: Place) throws {
    let bench = try Bench(place)
    let driver = RulesetDriver(kernel: bench.kernel)
    let first = try driver.apply(sample())
    #expect(first.rebuilt && first.failures.isEmpty)
    #expect(first.chainsAdded == 10 && first.setsAdded == 16)
    let second = try driver.resync()
    #expect(second.mutations == 0, "\(second)")
    #expect(try driver.apply(sample()).mutations == 0)
    let read = try #require(try bench.kernel.read())
    for (name, spec) in driver.ruleset.sets {
      #expect(read.sets[name]!.holds(spec), "\(name)")
      #expect(read.sets[name]!.elements == driver.ruleset.elements[name] ?? [], "\(name)")
    }
    for (name, chain) in driver.ruleset.chains {
      #expect(read.chains[name]!.holds(chain), "\(name)")
      for (rule, wanted) in zip(read.chains[name]!.rules, chain.rules) { #expect(rule.expressions == wanted.expressions, "\(wanted)") }
    }
  }

  @Test("A restart with an unchanged kernel takes ownership and changes nothing", arguments: Place.available)
  func restart(place: Place) throws {
    let bench = try Bench(place)
    do {
      let driver = RulesetDriver(kernel: bench.kernel)
      try driver.apply(sample())
    }
    try bench.restart()
    let next = RulesetDriver(kernel: bench.kernel)
    let report = try next.apply(sample())
    #expect(report.mutations == 0 && report.adopted && !report.rebuilt, "\(report)")
    // It owns the table again: changes go through.
    var delta = RulesetDelta()
    delta.add(.address(IPAddress("10.0.0.9")!), to: "hosts4")
    #expect(try next.apply(delta).elementsAdded == 1)
  }

  @Test("A restart changes only what differs", arguments: Place.available)
  func restartWithDifference(place: Place) throws {
    let bench = try Bench(place)
    do { try RulesetDriver(kernel: bench.kernel).apply(sample()) }
    try bench.restart()
    var wanted = sample()
    wanted.add(.address(IPAddress("10.0.0.2")!), to: "hosts4")
    wanted.elements["nd"]!.added.remove(SetElement([136]))
    wanted.chains["target"] = Chain(comment: "where it leads", [ChainRule(.counter, .drop)])
    wanted.chains["more"] = Chain([ChainRule(.jump("target"))])
    wanted.sets["states"] = nil
    wanted.elements["states"] = nil
    let report = try RulesetDriver(kernel: bench.kernel).apply(wanted)
    #expect(
      [report.elementsAdded, report.elementsRemoved, report.chainsChanged, report.chainsAdded, report.setsRemoved, report.chainsRemoved]
        == [1, 1, 1, 1, 1, 0], "\(report)")
    #expect(!report.rebuilt && report.failures.isEmpty)
  }

  @Test("A delta becomes one transaction of what it names", arguments: Place.available)
  func smallDelta(place: Place) throws {
    let bench = try Bench(place)
    let driver = RulesetDriver(kernel: bench.kernel)
    try driver.apply(sample())
    var delta = RulesetDelta()
    // The same key with another verdict: the old element goes and the new one comes in one step.
    delta.chains["other"] = Chain([ChainRule(.drop)])
    delta.remove(SetElement(name("cali1"), data: .verdict(.goto("target"))), from: "verdicts")
    delta.add(SetElement(name("cali1"), data: .verdict(.goto("other"))), to: "verdicts")
    delta.remove(.prefix(prefix("10.0.0.0/24")), from: "nets4")
    delta.add(.prefix(prefix("10.0.0.0/23")), to: "nets4")
    delta.remove(.prefix(prefix("10.0.1.0/24")), from: "nets4")
    let report = try driver.apply(delta)
    #expect(report.chainsAdded == 1 && report.elementsAdded == 2 && report.elementsRemoved == 3 && report.failures.isEmpty, "\(report)")
    #expect(try driver.resync().mutations == 0)

    var back = RulesetDelta()
    back.remove(SetElement(name("cali1"), data: .verdict(.goto("other"))), from: "verdicts")
    back.chains["other"] = .some(nil)
    #expect(try driver.apply(back).chainsRemoved == 1)
    #expect(try driver.resync().mutations == 0)
  }

  @Test("Chains that refer to one another go together with their map", arguments: Place.available)
  func removalInOneStep(place: Place) throws {
    let bench = try Bench(place)
    let driver = RulesetDriver(kernel: bench.kernel)
    var delta = RulesetDelta()
    delta.sets["map"] = SetSpec(.interfaceName, data: .verdict)
    delta.add(SetElement(name("cali1"), data: .verdict(.goto("a"))), to: "map")
    delta.chains = [
      "a": Chain([ChainRule(.jump("b"))]), "b": Chain([ChainRule(.verdictMap([.inputName], map: "other"))]), "c": Chain([ChainRule(.drop)]),
      "base": Chain(hook: ChainHook(.forward, priority: 0), [ChainRule(.verdictMap([.inputName], map: "map"))]),
    ]
    delta.sets["other"] = SetSpec(.interfaceName, data: .verdict)
    delta.add(SetElement(name("cali2"), data: .verdict(.goto("c"))), to: "other")
    try driver.apply(delta)
    var empty = RulesetDelta()
    empty.chains = ["a": nil, "b": nil, "c": nil, "base": nil]
    empty.sets = ["map": nil, "other": nil]
    let report = try driver.apply(empty)
    #expect(report.chainsRemoved == 4 && report.setsRemoved == 2 && report.failures.isEmpty, "\(report)")
    #expect(try bench.kernel.read()?.chains.isEmpty == true)
  }

  /// What a kernel refuses, and with which error.
  static let refusals: [(String, CInt, [RulesetMutation])] = {
    let hash = SetSpec(.ipv4)
    let interval = SetSpec(.ipv4, isInterval: true)
    let box = SetSpec(.interfaceName, .ipv4, isInterval: true)
    let one = SetElement.address(IPAddress("10.0.0.1")!)
    func range(_ text: String) -> SetElement {
      SetElement(
        KeyOctets.concatenated(name("cali1"), prefix(text).address.octets),
        last: KeyOctets.concatenated(name("cali1"), KeyOctets.last(of: prefix(text))))
    }
    return [
      ("a jump to a missing chain", ENOENT, [.addChain("a", nil, comment: nil), .addRule(chain: "a", ChainRule(.jump("b")))]),
      ("a rule in a missing chain", ENOENT, [.addRule(chain: "a", ChainRule(.drop))]),
      (
        "a lookup in a missing set", ENOENT,
        [
          .addChain("a", nil, comment: nil),
          .addRule(chain: "a", ChainRule(.family(.v4), .lookup([.source(.v4)], set: "s", negated: false), .drop)),
        ]
      ),
      ("a chain twice", EEXIST, [.addChain("a", nil, comment: nil), .addChain("a", nil, comment: nil)]),
      ("a set twice", EEXIST, [.addSet("s", hash), .addSet("s", hash)]),
      ("an element twice", EEXIST, [.addSet("s", hash), .addElements(set: "s", hash, [one]), .addElements(set: "s", hash, [one])]),
      ("deleting a missing element", ENOENT, [.addSet("s", hash), .deleteElements(set: "s", hash, [one])]),
      (
        "deleting a chain in use", EBUSY,
        [
          .addChain("a", nil, comment: nil), .addChain("b", nil, comment: nil), .addRule(chain: "a", ChainRule(.jump("b"))),
          .deleteChain("b"),
        ]
      ),
      (
        "deleting a set in use", EBUSY,
        [
          .addSet("s", hash), .addChain("a", nil, comment: nil),
          .addRule(chain: "a", ChainRule(.family(.v4), .lookup([.source(.v4)], set: "s", negated: false), .drop)), .deleteSet("s"),
        ]
      ),
      ("deleting a missing set", ENOENT, [.deleteSet("s")]),
      ("deleting a missing chain", ENOENT, [.deleteChain("a")]),
      (
        "overlapping ranges", EEXIST,
        [.addSet("s", interval), .addElements(set: "s", interval, [.prefix(prefix("10.0.0.0/8")), .prefix(prefix("10.1.0.0/16"))])]
      ),
      (
        "the same range twice", EEXIST,
        [
          .addSet("s", interval), .addElements(set: "s", interval, [.prefix(prefix("10.0.0.0/8"))]),
          .addElements(set: "s", interval, [.prefix(prefix("10.0.0.0/8"))]),
        ]
      ),
      (
        "overlapping boxes", EEXIST,
        [.addSet("s", box), .addElements(set: "s", box, [range("10.0.0.0/8"), range("10.1.0.0/16")])]
      ),
      (
        "a map to a missing chain", ENOENT,
        [
          .addSet("m", SetSpec(.interfaceName, data: .verdict)),
          .addElements(
            set: "m", SetSpec(.interfaceName, data: .verdict), [SetElement(name("cali1"), data: .verdict(.goto("nowhere")))]),
        ]
      ),
      (
        "a translation in a chain that filters", EOPNOTSUPP,
        [
          .addChain("a", ChainHook(.postrouting, priority: 100), comment: nil),
          .addRule(chain: "a", ChainRule(.translate(.masquerade(ports: nil)))),
        ]
      ),
      (
        "a destination translated where packets leave", EOPNOTSUPP,
        [
          .addChain("a", ChainHook(.postrouting, priority: 100, .nat), comment: nil), .addChain("b", nil, comment: nil),
          .addRule(chain: "a", ChainRule(.jump("b"))),
          .addRule(chain: "b", ChainRule(.family(.v4), .translate(.destination(IPAddress("10.0.0.1")!, port: nil)))),
        ]
      ),
      (
        "a loop", EMLINK,
        [
          .addChain("base", ChainHook(.forward, priority: 0), comment: nil), .addChain("a", nil, comment: nil),
          .addChain("b", nil, comment: nil), .addRule(chain: "base", ChainRule(.jump("a"))), .addRule(chain: "a", ChainRule(.jump("b"))),
          .addRule(chain: "b", ChainRule(.jump("a"))),
        ]
      ),
    ]
  }()

  @Test("What cannot be is refused with the same error, and nothing of the transaction stays", arguments: Place.available)
  func refusals(place: Place) throws {
    let bench = try Bench(place)
    try bench.kernel.commit([.addTable([])])
    for (what, code, mutations) in Self.refusals {
      var seen: RulesetError?
      do throws(RulesetError) { try bench.kernel.commit(mutations) } catch { seen = error }
      #expect(seen?.code == code, "\(what): \(seen.map { "\($0)" } ?? "accepted")")
      let left = try #require(try bench.kernel.read())
      #expect(left.chains.isEmpty && left.sets.isEmpty, "\(what)")
      if seen == nil { try bench.kernel.commit([.deleteTable, .addTable([])]) }
    }
  }

  @Test("Many elements cross the 64 kB of a nest and the megabytes of a send", arguments: Place.available)
  func large(place: Place) throws {
    let bench = try Bench(place)
    let driver = RulesetDriver(kernel: bench.kernel)
    var delta = RulesetDelta()
    // The fake compares every range with every other: fewer there.
    let count: UInt32 = place == .kernel ? 60_000 : 500
    delta.sets["hosts"] = SetSpec(.ipv4)
    delta.sets["nets"] = SetSpec(.ipv4, isInterval: true)
    var hosts: Set<SetElement> = []
    var nets: Set<SetElement> = []
    for index in 0..<count {
      hosts.insert(.address(.v4(IPv4Address(rawValue: 0x0a00_0000 + index))))
      if index < count / 4 { nets.insert(.prefix(IPPrefix(.v4(IPv4Address(rawValue: 0x1400_0000 + index * 256)), length: 24))) }
    }
    delta.elements = ["hosts": .init(added: hosts), "nets": .init(added: nets)]
    let report = try driver.apply(delta)
    #expect(report.failures.isEmpty && report.elementsAdded == Int(count + count / 4))
    #expect(try driver.resync().mutations == 0)
  }

  @Test("A map goes in a transaction after the one that leads packets past it: who is still on the old way finds what it held")
  func mapGoesLast() throws {
    let kernel = FakeRuleset()
    let driver = RulesetDriver(kernel: kernel)
    func way(_ map: String) -> RulesetDelta {
      var delta = RulesetDelta()
      delta.sets[map] = SetSpec(.interfaceName, data: .verdict)
      delta.chains["drop-\(map)"] = Chain([ChainRule(.drop)])
      delta.add(SetElement(name("cali1"), data: .verdict(.jump("drop-\(map)"))), to: map)
      delta.chains["frame"] = Chain([ChainRule(.verdictMap([.inputName], map: map))])
      return delta
    }
    try driver.apply(way("one"))
    var change = way("two")
    change.sets["one"] = .some(nil)
    change.chains["drop-one"] = .some(nil)
    let before = kernel.commits.count
    let report = try driver.apply(change)
    #expect(report.setsRemoved == 1 && report.chainsRemoved == 1 && report.failures.isEmpty)
    let commits = kernel.commits[before...]
    #expect(commits.count == 2)
    #expect(commits.last == [.flushChain("drop-one"), .deleteSet("one"), .deleteChain("drop-one")])
    // The same when it is found in the kernel by a restart.
    let next = RulesetDriver(kernel: kernel.successor())
    #expect(try next.apply(way("one")).setsRemoved == 1)
    #expect(try next.resync().mutations == 0)
  }

  @Test("A refused transaction is repaired: read, compare, and at last the whole table anew")
  func failure() throws {
    let fake = FakeRuleset()
    let driver = RulesetDriver(kernel: fake)
    try driver.apply(sample())
    var delta = RulesetDelta()
    delta.add(.address(IPAddress("10.0.0.2")!), to: "hosts4")
    fake.refusals = [RulesetError(code: ENOMEM, what: "once")]
    let once = try driver.apply(delta)
    #expect(once.failures.map(\.code) == [ENOMEM] && once.elementsAdded == 1 && once.resynced && !once.rebuilt)

    var more = RulesetDelta()
    more.add(.address(IPAddress("10.0.0.3")!), to: "hosts4")
    fake.refusals = [RulesetError(code: ENOMEM, what: "once"), RulesetError(code: ENOMEM, what: "twice")]
    let twice = try driver.apply(more)
    #expect(twice.failures.count == 2 && twice.rebuilt)
    #expect(fake.state?.sets["hosts4"]?.elements.count == 3)

    var last = RulesetDelta()
    last.add(.address(IPAddress("10.0.0.4")!), to: "hosts4")
    fake.refusals = (0..<3).map { RulesetError(code: ENOMEM, what: "time \($0)") }
    #expect(throws: RulesetError.self) { try driver.apply(last) }
    // The wish is kept.
    #expect(try driver.resync().elementsAdded == 1)
    #expect(fake.state?.sets["hosts4"]?.elements.count == 4)
  }

  @Test("Without persistent owners the table is made plain, and a restart still changes nothing")
  func oldKernel() throws {
    let fake = FakeRuleset()
    fake.hasPersistentOwners = false
    let report = try RulesetDriver(kernel: fake).apply(sample())
    #expect(report.rebuilt && report.failures.isEmpty && fake.state?.flags == [])
    let next = fake.successor()
    let second = try RulesetDriver(kernel: next).apply(sample())
    #expect(second.mutations == 0 && !second.rebuilt, "\(second)")
  }

  @Test("A rule or element edited by another hand is seen and repaired")
  func drift() throws {
    let fake = FakeRuleset()
    let driver = RulesetDriver(kernel: fake)
    try driver.apply(sample())
    #expect(try driver.receive() == nil)
    fake.state!.chains["forward"]!.rules[0].expressions.removeLast()
    fake.state!.sets["hosts4"]!.elements = []
    fake.state!.chains["foreign"] = KernelRuleset.KernelChain()
    fake.isForeign = true
    let report = try #require(try driver.receive())
    #expect(report.chainsChanged == 1 && report.elementsAdded == 1 && report.chainsRemoved == 1, "\(report)")
    #expect(try driver.resync().mutations == 0)
  }
}

@Suite("The table belongs to us", .enabled(if: KernelSandbox.isAvailable))
struct OwnershipTests {
  @Test("While the owner lives, others cannot edit the table, and a flush of everything passes it by")
  func owned() throws {
    let bench = try Bench(.kernel)
    let driver = RulesetDriver(kernel: bench.kernel)
    try driver.apply(sample())
    #expect(throws: CommandFailure.self) { try bench.nft("delete", "chain", "inet", "margay", "target") }
    _ = try bench.nft("flush", "ruleset")
    #expect(try driver.resync().mutations == 0)
  }

  @Test("A second driver says whose table it is, and leaves it alone")
  func twoOwners() throws {
    let bench = try Bench(.kernel)
    let driver = RulesetDriver(kernel: bench.kernel)
    try driver.apply(sample())
    let second = try RulesetDriver(namespace: bench.namespace!.descriptor.borrowed)
    let error = #expect(throws: RulesetError.self) { try second.apply(sample()) }
    #expect(error?.code == EPERM && error?.message?.contains("another running process") == true)
  }

  @Test("Where the table has no owner, a foreign edit wakes us and is repaired; our own changes and other tables are not taken for one")
  func notification() throws {
    let bench = try Bench(.kernel)
    let driver = RulesetDriver(kernel: bench.kernel, flags: [])
    try driver.apply(sample())
    #expect(try driver.receive() == nil, "our own load")
    _ = try bench.nft("add", "table", "inet", "theirs")
    #expect(try driver.receive() == nil, "another table")
    _ = try bench.nft("flush", "chain", "inet", "margay", "forward")
    var waiting = pollfd(fd: driver.descriptor, events: Int16(POLLIN), revents: 0)
    #expect(poll(&waiting, 1, 2000) == 1)
    let report = try #require(try driver.receive())
    #expect(report.chainsChanged == 1 && !report.rebuilt && report.failures.isEmpty, "\(report)")
    _ = try bench.nft("flush", "ruleset")
    #expect(try driver.receive()?.rebuilt == true)
    #expect(try driver.receive() == nil && driver.resync().mutations == 0)
  }

  @Test("What nft deletes from a table without an owner comes back")
  func repair() throws {
    let bench = try Bench(.kernel)
    do { try RulesetDriver(kernel: bench.kernel).apply(sample()) }
    try bench.restart()
    // The orphan: persistent, owned by nobody.
    _ = try bench.nft("flush", "chain", "inet", "margay", "target")
    _ = try bench.nft("add", "rule", "inet", "margay", "forward", "counter", "drop")
    _ = try bench.nft("delete", "element", "inet", "margay", "hosts4", "{ 10.0.0.1 }")
    let report = try RulesetDriver(kernel: bench.kernel).apply(sample())
    #expect(report.chainsChanged == 2 && report.elementsAdded == 1 && report.adopted && !report.rebuilt, "\(report)")
  }
}
