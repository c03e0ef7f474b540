/// ipam: who has which addresses, what is wrong with it, and how to change it.
import AddressAssignment
import AddressPlans
import Addresses
import ArgumentParser
import Datastore
import Documents
import JSON
import Resources
import Tables

struct IPAM: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ipam", abstract: "Addresses: who has them, what is wrong, and changes by hand.",
    subcommands: [IPAMShow.self, IPAMCheck.self, IPAMRelease.self, IPAMSplit.self, IPAMConfigure.self, IPAMAssign.self])
}

/// Words for a datastore that does not answer.
func withAddresses<Value>(_ datastore: any Datastore, _ body: () async throws -> Value) async throws -> Value {
  do {
    let value = try await body()
    await datastore.close()
    return value
  } catch let error as AddressBookError {
    if case .datastore(let error) = error { throw CommandProblem("\(datastore.name): \(error)") }
    throw CommandProblem(error.description)
  } catch let error as DatastoreError {
    throw CommandProblem("\(datastore.name): \(error)")
  }
}

func ipAddress(_ text: String, _ option: String) throws -> IPAddress {
  guard let address = IPAddress(text) else { throw CommandProblem("\(option) \(text): not an IP address") }
  return address
}

/// table, json or yaml.
enum IPAMOutput: String, ExpressibleByArgument, CaseIterable {
  case table, json, yaml
  func write(_ document: JSONValue, table: () -> String) {
    switch self {
    case .table: margay.write(table())
    case .json: margay.write(document.text(pretty: true) + "\n")
    case .yaml: margay.write(document.yamlText)
    }
  }
}

struct IPAMShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "How full pools and blocks are, and who has an address.",
    discussion: """
      Without options: a row for each pool. "available" is what can still be given automatically: not in use, not resting after its release \
      (cooldown), not reserved.
      """)
  @Flag(name: .long, help: "Each block as well, with its owner.") var showBlocks = false
  @Flag(name: .long, help: "Addresses that a node has out of another's block.") var showBorrowed = false
  @Flag(name: .long, help: "The configuration of IPAM.") var showConfiguration = false
  @Option(name: .long, help: "Who has this address.") var ip: String?
  @Option(name: .shortAndLong, help: "table, json or yaml.") var output: IPAMOutput = .table
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let datastore = try store.open()
    try await withAddresses(datastore) {
      if let ip { return try await show(try ipAddress(ip, "--ip"), datastore) }
      if showConfiguration { return try await showSettings(datastore) }
      let census = try await AddressCensus.read(datastore)
      if showBorrowed { return showBorrowed(census) }
      try await showUsage(census, datastore)
    }
  }

  // MARK: Pools and blocks

  private func showUsage(_ census: AddressCensus, _ datastore: any Datastore) async throws {
    let reserved = try await AddressBook(datastore: datastore, node: "").reserved()
    let blocks = census.blocks.values.map(\.block).sorted { $0.cidr < $1.cidr }
    var table = TextTable(["grouping", "cidr", "total>", "in use>", "resting>", "reserved>", "available>", "owner"])
    var documents: [JSONValue] = []
    func row(_ what: String, _ cidr: IPPrefix, _ usage: AddressUsage, _ owner: String, _ isPool: Bool) {
      let share = usage.capacity == .max ? "" : " (\(usage.inUse * 100 / max(usage.capacity, 1))%)"
      table.append([
        TextTable.Cell(what, isPool ? .bold : .dim), TextTable.Cell(cidr.description), TextTable.Cell(Self.number(usage.capacity)),
        TextTable.Cell("\(usage.inUse)\(share)", usage.available == 0 ? .yellow : .green), TextTable.Cell("\(usage.cooling)"),
        TextTable.Cell(Self.number(usage.reserved)), TextTable.Cell(Self.number(usage.available), usage.available == 0 ? .yellow : .green), TextTable.Cell(owner),
      ])
    }
    func document(_ usage: AddressUsage) -> JSONValue {
      func number(_ number: UInt64) -> JSONValue { Int64(exactly: number).map { .integer($0) } ?? .unsigned(number) }
      return [
        "total": number(usage.capacity), "inUse": number(usage.inUse), "resting": number(usage.cooling), "reserved": number(usage.reserved),
        "available": number(usage.available),
      ]
    }
    func blockDocument(_ block: AllocationBlock) -> JSONValue {
      var value = document(AddressUsage(block, reserved: reserved))
      value["cidr"] = .string(block.cidr.description)
      value["affinity"] = block.affinity.map { .string($0) } ?? .null
      return value
    }
    func rows(_ blocks: [AllocationBlock]) {
      guard showBlocks else { return }
      for block in blocks {
        let owner = block.affinity.map { BlockOwner(affinity: $0)?.description ?? $0 } ?? "nobody"
        row("  Block", block.cidr, AddressUsage(block, reserved: reserved), owner, false)
      }
    }
    for pool in census.pools.sorted(by: { $0.spec.cidr < $1.spec.cidr }) {
      let own = blocks.filter { pool.spec.cidr.contains($0.cidr) }
      let usage = AddressUsage(pool.spec.cidr, blocks: own, reserved: reserved)
      row("IP Pool", pool.spec.cidr, usage, pool.name + (pool.spec.disabled ? " (disabled)" : ""), true)
      rows(own)
      var value = document(usage)
      value["name"] = .string(pool.name)
      value["cidr"] = .string(pool.spec.cidr.description)
      if showBlocks { value["blocks"] = .array(own.map(blockDocument)) }
      documents.append(value)
    }
    let stray = blocks.filter { block in !census.pools.contains { $0.spec.cidr.contains(block.cidr) } }
    for block in stray {
      let owner = block.affinity.map { BlockOwner(affinity: $0)?.description ?? $0 } ?? "nobody"
      row("No pool", block.cidr, AddressUsage(block, reserved: reserved), owner, true)
    }
    let value: JSONValue = ["pools": .array(documents), "blocksOutsidePools": .array(stray.map(blockDocument))]
    output.write(value) { table.isEmpty ? "there is no pool and no block; create a pool with margay apply\n" : table.text(palette()) }
    for (key, why) in census.unreadable.sorted(by: { $0.key < $1.key }) { writeError("\(key): \(why)\n") }
  }

  /// Exact up to seven digits; of larger ones what a person can take in.
  static func number(_ number: UInt64) -> String {
    if number == .max { return "≥ 2⁶⁴" }
    if number < 10_000_000 { return "\(number)" }
    return "≈ 2^\(63 - number.leadingZeroBitCount)"
  }

  // MARK: Borrowed addresses

  private func showBorrowed(_ census: AddressCensus) {
    var table = TextTable(["ip", "borrowing node", "block", "block owner", "type", "allocated to"])
    var documents: [JSONValue] = []
    for (cidr, stored) in census.blocks.sorted(by: { $0.key < $1.key }) {
      for (address, attribute, _) in stored.block.assignments {
        guard let node = attribute.secondary["node"], stored.block.affinity != BlockOwner.host(node).affinity else { continue }
        let owner = stored.block.affinity.map { BlockOwner(affinity: $0)?.name ?? $0 } ?? "nobody"
        let type = attribute.secondary["type"] ?? (attribute.secondary["pod"] == nil ? "" : "pod")
        let holder = attribute.holderText
        table.append([address.description, node, cidr.description, owner, type, holder])
        documents.append([
          "ip": .string(address.description), "node": .string(node), "block": .string(cidr.description), "blockOwner": .string(owner),
          "handle": attribute.handleID.map { .string($0) } ?? .null, "holder": .string(holder),
        ])
      }
    }
    output.write(["borrowed": .array(documents)]) { table.isEmpty ? "no address is borrowed\n" : table.text(palette()) }
  }

  // MARK: Settings

  private func showSettings(_ datastore: any Datastore) async throws {
    let configuration = try await AddressBook(datastore: datastore, node: "").configuration()
    let value: JSONValue = [
      "strictAffinity": .bool(configuration.strictAffinity), "autoAllocateBlocks": .bool(configuration.autoAllocateBlocks),
      "maxBlocksPerHost": .integer(Int64(configuration.blocksPerHostMax)), "ipCooldownSeconds": .integer(Int64(configuration.cooldownSeconds)),
    ]
    output.write(value) {
      var table = TextTable(["property", "value"])
      for member in value.object?.members ?? [] { table.append([member.name, member.value.text()]) }
      return table.text(palette())
    }
  }

  // MARK: One address

  private func show(_ address: IPAddress, _ datastore: any Datastore) async throws {
    let census = try await AddressCensus.read(datastore)
    let stored = census.blocks.first { $0.key.contains(address) }?.value
    let holder = stored?.block.holder(of: address)
    var value: JSONValue = ["ip": .string(address.description)]
    value["pool"] = census.pools.first { $0.spec.cidr.contains(address) }.map { .string($0.name) } ?? .null
    value["block"] = (stored?.block.cidr.description).map { .string($0) } ?? .null
    value["blockOwner"] = (stored?.block.affinity).map { .string($0) } ?? .null
    let users = census.users[address, default: []].map(\.description).sorted()
    value["usedBy"] = .array(users.map { .string($0) })
    var lines = "\(address) is "
    if let holder, let since = holder.releasedAt {
      value["state"] = "resting"
      lines += "resting since \(since), when it was released\n"
    } else if let holder {
      value["state"] = "assigned"
      value["handle"] = holder.handleID.map { .string($0) } ?? .null
      value["sequenceNumber"] = stored?.block.sequence(of: address).map { Int64(exactly: $0).map { .integer($0) } ?? .unsigned($0) }
      value["attributes"] = .object(JSONObject(holder.secondary.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) }))
      lines += "assigned to handle \(holder.handleID ?? "(none)")\n"
      for (name, text) in holder.secondary.sorted(by: { $0.key < $1.key }) { lines += "  \(name): \(text)\n" }
      if let other = holder.alternate {
        value["alternateHandle"] = other.handleID.map { .string($0) } ?? .null
        lines += "  and to handle \(other.handleID ?? "")\(other.secondary["node"].map { " on node \($0)" } ?? "")\n"
      }
    } else {
      value["state"] = "free"
      lines += "not assigned\n"
    }
    if let stored {
      let owner = stored.block.affinity.map { BlockOwner(affinity: $0)?.description ?? $0 } ?? "nobody"
      lines += "block \(stored.block.cidr) of \(owner)\n"
    }
    lines += users.isEmpty ? "no endpoint and no node uses it\n" : "used by \(users.joined(separator: ", "))\n"
    if value["pool"] == .null { lines += "no pool covers it\n" }
    output.write(value) { lines }
  }
}

extension AllocationBlock.Attribute {
  var holderText: String {
    if let pod = secondary["pod"] { return "\(secondary["namespace"] ?? "")/\(pod)" }
    return handleID ?? ""
  }
}
