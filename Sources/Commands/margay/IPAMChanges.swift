/// ipam release, split, configure, assign: changes by hand.
import AddressAssignment
import AddressPlans
import Addresses
import ArgumentParser
import Datastore
import JSON
import Resources
import Sockets

struct IPAMRelease: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "release", abstract: "Give addresses back.",
    discussion: """
      From a report, an address is released only as the report saw it: what was released and given anew since then has another sequence \
      number, and what an endpoint uses by now is left alone. Of several reports only what all of them name is released.
      """)
  @Option(name: .long, help: "This address, whoever holds it.") var ip: String?
  @Option(name: .long, help: "Everything that this handle holds.") var handle: String?
  @Option(name: .long, help: "What the report of margay ipam check calls leaked; may be given several times.") var fromReport: [String] = []
  @Flag(name: .long, help: "Also what an endpoint or a node uses, and by a report of another cluster.") var force = false
  @OptionGroup var store: DatastoreOptions

  func validate() throws {
    guard [ip != nil, handle != nil, !fromReport.isEmpty].count(where: { $0 }) == 1 else {
      throw ValidationError("say what to release: one of --ip, --handle, --from-report")
    }
  }

  func run() async throws {
    let reports = try fromReport.map { try AddressReport(path: $0) }
    let datastore = try store.open()
    try await withAddresses(datastore) {
      let book = AddressBook(datastore: datastore, node: "")
      let census = try await AddressCensus.read(datastore)
      if let ip { return try await release(try ipAddress(ip, "--ip"), census, book) }
      if let handle { return try await release(handle: handle, census, book) }
      try await release(reports, census, book)
    }
  }

  private func refuseUsed(_ addresses: [IPAddress], _ census: AddressCensus) throws {
    guard !force else { return }
    for address in addresses {
      guard let users = census.users[address], !users.isEmpty else { continue }
      let names = users.map(\.description).sorted().joined(separator: ", ")
      throw CommandProblem("\(address) is in use by \(names); delete that first, or release it with --force")
    }
  }

  private func release(_ address: IPAddress, _ census: AddressCensus, _ book: AddressBook) async throws {
    try refuseUsed([address], census)
    let released = try await book.release([address])
    write(released.isEmpty ? "\(address) is not assigned; nothing to release\n" : "\(address) released\n")
  }

  private func release(handle: String, _ census: AddressCensus, _ book: AddressBook) async throws {
    try refuseUsed(try await book.addresses(heldBy: handle), census)
    let released = try await book.release(handle: handle)
    write(released.isEmpty ? "handle \(handle) holds nothing\n" : released.map { "\($0) released\n" }.joined())
  }

  private func release(_ reports: [AddressReport], _ census: AddressCensus, _ book: AddressBook) async throws {
    let cluster = try await AddressReport.clusterGUID(book.datastore)
    for (report, path) in zip(reports, fromReport) where report.clusterGUID != cluster && !force {
      throw CommandProblem("\(path) is a report of another cluster (\(report.clusterGUID), this one is \(cluster)); --force overrules")
    }
    var common = Set(reports[0].leaks)
    for report in reports.dropFirst() { common.formIntersection(report.leaks) }
    var (released, used, gone) = (0, 0, 0)
    for leak in common.sorted(by: { $0.address < $1.address }) {
      if !force, census.users[leak.address]?.isEmpty == false {
        used += 1
        write("\(leak.address) is in use by now; left alone\n")
        continue
      }
      if try await book.release([.init(leak.address, sequence: leak.sequence)], handle: leak.handle).isEmpty {
        gone += 1
        write("\(leak.address) is not as it was when the report was made; left alone\n")
      } else {
        released += 1
        write("\(leak.address) released\n")
      }
    }
    write("\(released) released, \(used + gone) left alone\n")
  }
}

struct IPAMSplit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "split", abstract: "Divide a pool into equal ones.",
    discussion: """
      The parts take the pool's place in one transaction, while everything goes on: workloads keep their addresses and nodes their blocks. \
      The parts are called split-NAME-0, split-NAME-1 and so on; who asks for the old pool by its name has to be told.
      """)
  @Argument(help: "How many parts: 2, 4, 8 and so on, up to 64.") var number: Int
  @Option(name: .long, help: "The pool by its network.") var cidr: String?
  @Option(name: .long, help: "The pool by its name.") var name: String?
  @Flag(name: .long, help: "Accepted for scripts of calicoctl; nothing has to be locked here.") var force = false
  @OptionGroup var store: DatastoreOptions

  func validate() throws {
    guard (cidr == nil) != (name == nil) else { throw ValidationError("say which pool: one of --cidr, --name") }
  }

  func run() async throws {
    let datastore = try store.open()
    let parts = try await withAddresses(datastore) {
      try await PoolSplitting.split(try await poolName(datastore), into: number, datastore)
    }
    for part in parts { write("IPPool \(part.name) created: \(part.spec.cidr)\n") }
    write("the pool that they were is gone; addresses and blocks stay as they are\n")
  }

  private func poolName(_ datastore: any Datastore) async throws -> String {
    if let name { return name }
    guard let text = cidr, let wanted = IPPrefix(text) else { throw CommandProblem("--cidr \(cidr ?? ""): not a network") }
    for item in try await ResourceStore(datastore).list(.ipPool).items {
      if case .ipPool(let pool) = item.resource.spec, pool.cidr == wanted { return item.resource.metadata.name }
    }
    throw CommandProblem("no IPPool has the network \(wanted)")
  }
}

struct IPAMConfigure: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "configure", abstract: "Change the settings of IPAM.", discussion: "What is not named stays as it is.")
  @Option(name: .customLong("strictaffinity"), help: "true: a node never gives an address of another's block.") var strictAffinity: Bool?
  @Option(name: .customLong("autoallocateblocks"), help: "false: nodes get no new blocks by themselves; needs strict affinity.")
  var autoAllocateBlocks: Bool?
  @Option(name: .customLong("maxblocks"), help: "The most blocks of a node, of each family; 0: the built-in limit of 20. Needs strict affinity.")
  var blocksMax: Int?
  @Option(name: .customLong("cooldown"), help: "Seconds that a released address rests before somebody else gets it, 0 to 1200.")
  var cooldownSeconds: Int?
  @OptionGroup var store: DatastoreOptions

  func validate() throws {
    guard strictAffinity != nil || autoAllocateBlocks != nil || blocksMax != nil || cooldownSeconds != nil else {
      throw ValidationError("say what to change: --strictaffinity, --autoallocateblocks, --maxblocks, --cooldown")
    }
  }

  func run() async throws {
    let datastore = try store.open()
    let configuration = try await withAddresses(datastore) {
      try await AddressBook(datastore: datastore, node: "").configure { configuration in
        if let strictAffinity { configuration.strictAffinity = strictAffinity }
        if let autoAllocateBlocks { configuration.autoAllocateBlocks = autoAllocateBlocks }
        if let blocksMax { configuration.blocksPerHostMax = blocksMax }
        if let cooldownSeconds { configuration.cooldownSeconds = cooldownSeconds }
      }
    }
    write(
      "strictAffinity \(configuration.strictAffinity), autoAllocateBlocks \(configuration.autoAllocateBlocks), "
        + "maxBlocksPerHost \(configuration.blocksPerHostMax), ipCooldownSeconds \(configuration.cooldownSeconds)\n")
  }
}

struct IPAMAssign: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "assign", abstract: "Assign addresses to a handle; for scripts and for hosts outside of any orchestrator.",
    discussion: """
      All of them or none. What is assigned here stays until margay ipam release --handle: nobody looks for its user. One address a line.
      """)
  @Option(name: .long, help: "Who holds them; a name of your choice.") var handle: String
  @Option(name: .long, help: "Exactly this address.") var ip: String?
  @Option(name: .long, help: "So many addresses of one family.") var count: Int?
  @Option(name: .long, help: "4 or 6, with --count.") var family = 4
  @Option(name: .long, help: "In whose blocks to look first, and whose a new block becomes.") var node: String
  @Option(name: .long, help: "Only from these pools, by name or network; may be given several times.") var pool: [String] = []
  @Option(name: .long, help: "A word of explanation, kept with the assignment.") var note: String?
  @OptionGroup var store: DatastoreOptions

  func validate() throws {
    guard (ip == nil) != (count == nil) else { throw ValidationError("say what to assign: one of --ip, --count") }
    guard count.map({ (1...65536).contains($0) }) ?? true else { throw ValidationError("--count is 1 to 65536") }
    guard family == 4 || family == 6 else { throw ValidationError("--family is 4 or 6") }
    if node.isEmpty || handle.isEmpty { throw ValidationError("--node and --handle must not be empty") }
  }

  func run() async throws {
    let datastore = try store.open()
    var attributes = ["node": node]
    attributes["note"] = note
    let given = try await withAddresses(datastore) { [attributes] in
      let book = AddressBook(datastore: datastore, node: node)
      if let ip {
        let address = try ipAddress(ip, "--ip")
        try await book.assign(address, handle: handle, attributes: attributes)
        return [address]
      }
      let count = count ?? 1
      let result = try await book.autoAssign(
        v4: family == 4 ? count : 0, v6: family == 6 ? count : 0, handle: handle, attributes: attributes, terms: AssignmentTerms(pools: pool))
      let addresses = result.v4 + result.v6
      guard addresses.count == count else {
        if !addresses.isEmpty { try await book.release(addresses, handle: handle) }
        throw CommandProblem(result.messages.joined(separator: "; ") + "; nothing was assigned")
      }
      return addresses
    }
    for address in given { write("\(address)\n") }
  }
}
