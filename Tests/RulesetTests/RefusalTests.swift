/// One object that the kernel refuses: it fails closed, and nothing else waits for it.

import Addresses
import Glibc
import KernelSandbox
import NetlinkEdge
import RulesetDriver
import Rulesets
import Testing

@Suite("What the kernel refuses")
struct RefusalTests {
  /// Two policies in one group behind a dispatch map, with a set each.
  static func world() -> RulesetDelta {
    var delta = RulesetDelta()
    delta.sets["workloads"] = SetSpec(.interfaceName, data: .verdict)
    delta.sets["hosts4-a"] = SetSpec(.ipv4)
    delta.sets["hosts4-b"] = SetSpec(.ipv4)
    func policy(_ name: String) -> Chain {
      Chain(
        isPolicy: true,
        [
          ChainRule(
            .family(.v4), .lookup([.source(.v4)], set: "hosts4-\(name)", negated: false), .counter, .accept,
            comment: "policy \(name) rule 1"),
          ChainRule(.transport(17), .counter, .accept, comment: "policy \(name) rule 2"),
        ])
    }
    delta.chains["policy-a"] = policy("a")
    delta.chains["policy-b"] = policy("b")
    delta.chains["group"] = Chain(
      isPolicy: true, [ChainRule(.jump("policy-a")), ChainRule(.jump("policy-b")), ChainRule(.counter, .drop)])
    delta.chains["forward"] = Chain(
      hook: ChainHook(.forward, priority: 0), [ChainRule(.verdictMap([.inputName], map: "workloads")), ChainRule(.counter, .drop)])
    for number in 1...3 {
      delta.add(SetElement(KeyOctets.interfaceName("cali\(number)")!, data: .verdict(.goto("group"))), to: "workloads")
    }
    delta.add(.address(IPAddress("10.0.0.1")!), to: "hosts4-a")
    return delta
  }
  private static func rig() throws -> (FakeRuleset, RulesetDriver) {
    let fake = FakeRuleset()
    return (fake, RulesetDriver(kernel: fake))
  }
  private static func refuses(_ comment: String) -> (RulesetMutation) -> CInt? {
    { if case .addRule(_, let rule) = $0, rule.comment == comment { EINVAL } else { nil } }
  }

  @Test("A refused rule denies at its own place, the rest is in the kernel, the problem names policy and cause, and it is tried again")
  func rule() throws {
    let (fake, driver) = try Self.rig()
    fake.refusesMutation = Self.refuses("policy b rule 2")
    let report = try driver.apply(Self.world())
    #expect(report.rebuilt && report.failures.count == 1)
    let rules = try #require(fake.state?.chains["policy-b"]?.rules)
    #expect(rules[0].expressions == Self.world().chains["policy-b"]!!.rules[0].expressions)
    #expect(rules[1].expressions == [.counter, .verdict(.drop)])
    #expect(fake.state?.sets["workloads"]?.elements.count == 3)
    #expect(driver.problems.count == 1)
    #expect(driver.problems[0].hasPrefix("policy b rule 2: denies all, for the kernel refuses it: "), "\(driver.problems)")
    #expect(driver.problems[0].contains("Invalid argument"), "\(driver.problems)")
    // Others' changes do not wait.
    var more = RulesetDelta()
    more.add(.address(IPAddress("10.0.0.9")!), to: "hosts4-b")
    #expect(try driver.apply(more).failures == [] && driver.problems.count == 1)
    // The same again while it is refused, then no longer.
    #expect(try driver.resync().failures.count == 1 && driver.problems.count == 1)
    fake.refusesMutation = { _ in nil }
    #expect(try driver.resync().chainsChanged == 1 && driver.problems == [])
    #expect(fake.state?.chains["policy-b"]?.holds(Self.world().chains["policy-b"]!!) == true)
  }

  @Test("A change that is refused leaves the policy denying, and a better one is taken at once")
  func change() throws {
    let (fake, driver) = try Self.rig()
    try driver.apply(Self.world())
    fake.refusesMutation = Self.refuses("new")
    var delta = RulesetDelta()
    delta.chains["policy-a"] = Chain(isPolicy: true, [ChainRule(.transport(6), .accept, comment: "new")])
    let report = try driver.apply(delta)
    #expect(!report.rebuilt && fake.state?.chains["policy-a"]?.rules.map(\.expressions) == [[.counter, .verdict(.drop)]])
    delta.chains["policy-a"] = Chain(isPolicy: true, [ChainRule(.transport(6), .accept, comment: "better")])
    #expect(try driver.apply(delta).failures == [] && driver.problems == [])
    #expect(fake.state?.chains["policy-a"]?.rules.count == 1)
  }

  @Test("A refused set is denied by each rule that looks into it, and what is wished of it goes on")
  func set() throws {
    let (fake, driver) = try Self.rig()
    fake.refusesMutation = { if case .addSet("hosts4-a", _) = $0 { ENOMEM } else { nil } }
    try driver.apply(Self.world())
    #expect(fake.state?.sets["hosts4-a"] == nil && fake.state?.chains["policy-a"]?.rules[0].expressions == [.counter, .verdict(.drop)])
    #expect(driver.problems.count == 1 && driver.problems[0].hasPrefix("policy a rule 1: "), "\(driver.problems)")
    var more = RulesetDelta()
    more.add(.address(IPAddress("10.0.0.2")!), to: "hosts4-a")
    #expect(try driver.apply(more).failures == [])
    fake.refusesMutation = { _ in nil }
    try driver.resync()
    #expect(fake.state?.sets["hosts4-a"]?.elements.count == 2 && driver.problems == [])
    #expect(fake.state?.chains["policy-a"]?.holds(Self.world().chains["policy-a"]!!) == true)
  }

  @Test("Of the frame's elements only the refused one is left out: that interface has no traffic, the others have theirs")
  func element() throws {
    let (fake, driver) = try Self.rig()
    let bad = SetElement(KeyOctets.interfaceName("cali2")!, data: .verdict(.goto("group")))
    fake.refusesMutation = { if case .addElements("workloads", _, let elements) = $0, elements.contains(bad) { E2BIG } else { nil } }
    try driver.apply(Self.world())
    #expect(fake.state?.sets["workloads"]?.elements.count == 2)
    #expect(driver.problems.count == 1 && driver.problems[0].contains("1 elements of set workloads"))
    var gone = RulesetDelta()
    gone.remove(bad, from: "workloads")
    #expect(try driver.apply(gone).failures == [] && driver.problems == [])
  }

  @Test("Where the kernel does not say what is wrong, halving finds it")
  func halves() throws {
    let (fake, driver) = try Self.rig()
    try driver.apply(Self.world())
    var delta = RulesetDelta()
    for number in 0..<9 {
      delta.chains["policy-\(number)"] = Chain(isPolicy: true, [ChainRule(.transport(6), .accept, comment: "policy \(number) rule 1")])
    }
    // A loop is an error of the whole transaction.
    delta.chains["policy-5"] = Chain(isPolicy: true, [ChainRule(.jump("policy-5"), comment: "policy 5 rule 1")])
    try driver.apply(delta)
    #expect(driver.problems.count == 1 && driver.problems[0].hasPrefix("policy 5 rule 1: denies all"), "\(driver.problems)")
    #expect(fake.state?.chains["policy-4"]?.holds(delta.chains["policy-4"]!!) == true)
    #expect(fake.state?.chains["policy-5"]?.rules.map(\.expressions) == [[.counter, .verdict(.drop)]])
  }

  /// A map that only a policy looks into, which goes with the policy's next version.
  private static func switchesMap(of delta: inout RulesetDelta) -> RulesetDelta {
    delta.sets["ports-a"] = SetSpec(.port, data: .verdict)
    delta.chains["policy-a"] = Chain(
      isPolicy: true, [ChainRule(.transport(6), .verdictMap([.destinationPort], map: "ports-a"), comment: "policy a rule 1")])
    var next = RulesetDelta()
    next.sets["ports-a"] = .some(nil)
    next.chains["policy-a"] = Chain(isPolicy: true, [ChainRule(.transport(6), .accept, comment: "policy a rule 2")])
    return next
  }

  @Test("What the kernel will not let go stays and is told; nothing is held back or rolled back for it; each resync tries again")
  func leavings() throws {
    let (fake, driver) = try Self.rig()
    var world = Self.world()
    let next = Self.switchesMap(of: &world)
    try driver.apply(world)
    fake.refusesMutation = { if case .deleteSet("ports-a") = $0 { EBUSY } else { nil } }
    // By a change, by the comparison after another refusal (its place there, 0, is that of set c in the first transaction), by a resync.
    var reports = [try driver.apply(next)]
    var other = RulesetDelta()
    other.sets["hosts4-c"] = SetSpec(.ipv4)
    let looks = ChainRule(.family(.v4), .lookup([.source(.v4)], set: "hosts4-c", negated: false), .accept, comment: "policy b rule 3")
    other.chains["policy-b"] = Chain(isPolicy: true, [looks])
    fake.refusals = [RulesetError(code: EINTR, what: "ruleset transaction")]
    reports.append(try driver.apply(other))
    reports.append(try driver.resync())
    #expect(reports.map(\.failures.count) == [1, 2, 1] && reports.allSatisfy { $0.setsRemoved == 0 && !$0.rebuilt })
    let expected = ["policy-a": next.chains["policy-a"]!!, "policy-b": other.chains["policy-b"]!!]
    for (name, chain) in expected { #expect(fake.state?.chains[name]?.holds(chain) == true, "\(name)") }
    #expect(fake.state?.sets["ports-a"] != nil)
    #expect(driver.problems.count == 1 && driver.problems[0].contains("delete set ports-a"), "\(driver.problems)")
    fake.refusesMutation = { _ in nil }
    #expect(try driver.resync().setsRemoved == 1 && driver.problems == [] && fake.state?.sets["ports-a"] == nil)
  }

  @Test("While halving too: what was let in stays in, though the kernel keeps what should have gone")
  func leavingsOfHalves() throws {
    let (fake, driver) = try Self.rig()
    var world = Self.world()
    var next = Self.switchesMap(of: &world)
    try driver.apply(world)
    fake.refusesMutation = { if case .deleteSet("ports-a") = $0 { EBUSY } else { nil } }
    next.chains["policy-b"] = Chain(isPolicy: true, [ChainRule(.jump("policy-b"), comment: "policy b rule 1")])
    try driver.apply(next)
    #expect(fake.state?.chains["policy-a"]?.holds(next.chains["policy-a"]!!) == true)
    #expect(fake.state?.chains["policy-b"]?.rules.map(\.expressions) == [[.counter, .verdict(.drop)]])
    #expect(driver.problems.count == 2 && driver.problems.contains { $0.contains("delete set ports-a") }, "\(driver.problems)")
    // What the driver believes is what the kernel holds: the next change is not refused.
    var more = RulesetDelta()
    more.add(.address(IPAddress("10.0.0.9")!), to: "hosts4-b")
    #expect(try driver.apply(more).failures == [])
  }

  @Test("Tables of Calico that cannot be deleted are told, ours is in force, and each resync tries again")
  func predecessors() throws {
    let (fake, driver) = try Self.rig()
    fake.foreignTables = Set(ForeignTable.calico)
    fake.refusesMutation = { if case .flushPredecessor = $0 { EPERM } else { nil } }
    let report = try driver.apply(Self.world())
    #expect(report.takenOver == [] && report.failures.count == 1 && fake.foreignTables.count == 3)
    #expect(fake.state?.chains["policy-b"]?.holds(Self.world().chains["policy-b"]!!) == true)
    #expect(driver.problems.count == 1 && driver.problems[0].contains("flush table ip calico"), "\(driver.problems)")
    fake.refusesMutation = { _ in nil }
    #expect(try driver.resync().takenOver == ForeignTable.calico && driver.problems == [] && fake.foreignTables == [])
  }

  @Test("What the frame cannot do without is not substituted: the kernel keeps what it has, and the error says why")
  func frame() throws {
    let (fake, driver) = try Self.rig()
    try driver.apply(Self.world())
    let before = fake.state
    fake.refusesMutation = { if case .addRule("forward", _) = $0 { EINVAL } else { nil } }
    var delta = RulesetDelta()
    delta.chains["forward"] = Chain(hook: ChainHook(.forward, priority: 0), [ChainRule(.counter, .drop)])
    #expect(throws: RulesetError.self) { try driver.apply(delta) }
    #expect(fake.state == before)
  }

  @Test("A real kernel's refusals are isolated as well", .enabled(if: KernelSandbox.isAvailable))
  func kernel() throws {
    let bench = try Bench(.kernel)
    let driver = RulesetDriver(kernel: bench.kernel)
    try driver.apply(Self.world())
    var delta = RulesetDelta()
    // ENOENT: a jump to nowhere. EINVAL: a set with a key longer than any. Beside them something good.
    delta.chains["policy-a"] = Chain(isPolicy: true, [ChainRule(.jump("nowhere"), comment: "policy a rule 1")])
    delta.sets["broken"] = SetSpec(key: [.ipv6, .ipv6, .ipv6, .ipv6, .ipv6])
    delta.chains["policy-b"] = Chain(
      isPolicy: true,
      [
        ChainRule(
          .family(.v6), .lookup([.source(.v6), .source(.v6), .source(.v6)], set: "broken", negated: false), .accept,
          comment: "policy b rule 1"),
        ChainRule(.transport(17), .counter, .accept, comment: "policy b rule 2"),
      ])
    delta.add(.address(IPAddress("10.0.0.7")!), to: "hosts4-a")
    try driver.apply(delta)
    #expect(driver.problems.count == 2, "\(driver.problems)")
    let read = try #require(try bench.kernel.read())
    #expect(read.chains["policy-a"]?.rules.map(\.expressions) == [[.counter, .verdict(.drop)]])
    #expect(read.chains["policy-b"]?.rules.first?.expressions == [.counter, .verdict(.drop)])
    #expect(read.chains["policy-b"]?.rules.last?.expressions.contains(.verdict(.accept)) == true)
    #expect(read.sets["hosts4-a"]?.elements.count == 2)
    // A loop: the transaction as a whole.
    var loop = RulesetDelta()
    loop.chains["policy-a"] = Chain(isPolicy: true, [ChainRule(.jump("policy-a"), comment: "policy a rule 1")])
    loop.chains["policy-b"] = Chain(isPolicy: true, [ChainRule(.transport(6), .accept, comment: "policy b rule 1")])
    let report = try driver.apply(loop)
    #expect(report.failures.count >= 2, "\(report.failures)")
    #expect(driver.problems.count == 1 && driver.problems[0].contains("policy a rule 1"), "\(driver.problems) \(report.failures)")
    #expect(try bench.kernel.read()?.chains["policy-b"]?.rules.first?.expressions.contains(.verdict(.accept)) == true)
  }
}
