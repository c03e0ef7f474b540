/// A topology file, `kind: Topology`, to a topology. What it leaves out is filled in; what is wrong is told all at once, each with its
/// place in the file, the value, the rule and what to write instead. `Examples/README.md` lists the fields.
import Addresses
import Documents
import Glibc
import JSON
import Names
import Selectors
import Sockets

public enum TopologyReader {
  public static let apiVersion = "lab.margay/v1"
  public static let kind = "Topology"

  /// Reads a file; `-` is the standard input. Other documents of the file are objects to apply.
  public static func read(path: String) throws(DocumentErrors) -> Topology {
    let directory = path == "-" ? "." : Files.parent(of: path)
    return try read(DocumentReader.read(path: path), file: path, directory: directory.isEmpty ? "." : directory)
  }

  /// The same from a text; files named in it are looked for in `directory`.
  public static func read(_ bytes: [UInt8], file: String, directory: String = ".") throws(DocumentErrors) -> Topology {
    try read(DocumentReader.read(bytes: bytes, file: file), file: file, directory: directory)
  }

  private static func read(_ documents: [PositionedDocument], file: String, directory: String) throws(DocumentErrors) -> Topology {
    let own = documents.filter { $0.value["kind"]?.string == kind }
    guard let first = own.first else {
      throw DocumentErrors([
        DocumentError(
          file: file, position: documents.first.map { $0.position(of: JSONPath()) }, path: JSONPath(),
          rule: "holds no document of kind \(kind)", fix: "begin with apiVersion: \(apiVersion) and kind: \(kind)")
      ])
    }
    let findings = Findings(isStrict: true, document: first)
    var topology = TopologyDecoding(findings: findings, directory: directory).topology(first)
    var errors = findings.errors
    for other in own.dropFirst() {
      errors.append(
        DocumentError(
          file: file, position: other.position(of: other.root), path: other.root, rule: "is a second topology in one file",
          fix: "keep one of them"))
    }
    for other in documents where other.value["kind"]?.string != kind {
      let review = ResourceCodec.review(other)
      errors += review.errors
      topology.objects.append(other.value)
    }
    guard errors.isEmpty else {
      throw DocumentErrors(
        errors.sorted { a, b in
          guard a.file == b.file else { return b.file != file && a.file == file }
          return (a.position ?? JSONPosition(line: 0, column: 0)) < (b.position ?? JSONPosition(line: 0, column: 0))
        })
    }
    return topology
  }
}

/// Reads the fields in the order in which they build on each other, then checks what concerns several of them.
struct TopologyDecoding {
  let findings: Findings
  let directory: String

  func topology(_ document: PositionedDocument) -> Topology {
    var topology = Topology()
    guard let object = document.value.object else { return topology }
    let reader = FieldReader(object, document.root, findings)
    if let version = reader.string("apiVersion") {
      if version != TopologyReader.apiVersion {
        findings.error(
          reader.path("apiVersion"), .string(version), "is not the version of a topology", fix: "write \(TopologyReader.apiVersion)")
      }
    } else if reader.value("apiVersion") == nil {
      findings.error(document.root, nil, "has no apiVersion", fix: "add apiVersion: \(TopologyReader.apiVersion)")
    }
    _ = reader.value("kind")
    if let metadata = reader.reader("metadata") {
      _ = metadata.string("name")
      metadata.finish(hints: ["annotations", "labels"])
    }
    let spec = reader.reader("spec") ?? FieldReader(JSONObject(), reader.path("spec"), findings)
    reader.finish()

    topology.datastore = spec.choice("datastore", Topology.DatastoreProgram.self) ?? .sqlite
    topology.asNumber = spec.asNumber("asNumber") ?? topology.asNumber
    let program = spec.choice("router", Topology.RouterProgram.self) ?? .bird
    let reflectors = spec.array("reflectors")
    topology.arrangement =
      spec.choice("arrangement", Topology.Arrangement.self) ?? (reflectors.isEmpty ? .mesh : .reflectors)

    var names = PlaceNames(findings: findings)
    readRacks(spec, program, &topology, &names)
    readHosts(spec, &topology, &names)
    readSpines(spec, program, &topology, &names)
    readLinks(spec, &topology, names)
    for (value, path) in reflectors { readReflector(value, path, &topology, names) }
    readPools(spec, &topology)
    readNamespacesAndWorkloads(spec, &topology, &names)
    readServices(spec, &topology)
    readDocuments(spec, &topology)
    spec.finish()
    if findings.errors.isEmpty { checkWhole(spec, topology) }
    return topology
  }

  // MARK: Shorthands

  /// A list whose elements are names or objects with a name; a number of elements stands for so many numbered names.
  private func elements(_ spec: FieldReader, _ field: String, prefix: String, countMax: Int) -> [(reader: FieldReader, name: String)]? {
    guard let value = spec.value(field) else { return nil }
    let path = spec.path(field)
    if value.double != nil {
      guard let count = spec.integer(value, path, in: 0...Int64(countMax)) else { return [] }
      return (0..<Int(count)).map {
        (FieldReader(JSONObject(), path, findings), count == 1 && prefix != "host" ? prefix : "\(prefix)\($0 + 1)")
      }
    }
    let found = spec.array(field).compactMap { value, path -> (FieldReader, String)? in
      if value.object == nil {
        return spec.string(value, path).map { (FieldReader(JSONObject(), path, findings), $0) }
      }
      guard let reader = spec.reader(value, path) else { return nil }
      guard let name = reader.string("name") else {
        if reader.value("name") == nil { findings.error(path, nil, "has no name", fix: "add name: \(prefix)1") }
        return nil
      }
      return (reader, name)
    }
    if found.count > countMax { findings.error(path, nil, "has \(found.count) elements", fix: "a lab holds at most \(countMax)") }
    return Array(found.prefix(countMax))
  }

  private func asNumber(_ reader: FieldReader, _ topology: Topology) -> UInt32? {
    guard let number = reader.asNumber("asNumber") else { return nil }
    if topology.arrangement.hasOneAS {
      findings.error(
        reader.path("asNumber"), .integer(Int64(number)),
        "has no meaning here: with arrangement \(topology.arrangement.rawValue) all are one AS",
        fix: "remove it, set spec.asNumber for all, or write arrangement: as-per-rack or as-per-host")
      return nil
    }
    return number
  }

  // MARK: Places

  private func readRacks(_ spec: FieldReader, _ program: Topology.RouterProgram, _ topology: inout Topology, _ names: inout PlaceNames) {
    let racks = elements(spec, "racks", prefix: "rack", countMax: Fabric.routersMax)
    if let racks, racks.isEmpty, findings.errors.isEmpty {
      findings.error(spec.path("racks"), nil, "names no rack", fix: "name one, or leave racks out for one called rack")
    }
    for (reader, name) in racks ?? [(FieldReader(JSONObject(), spec.path("racks"), findings), "rack")] {
      _ = reader.value("name")
      guard names.add(name, "rack", reader.value("name") == nil ? reader.path : reader.path("name")) else { continue }
      topology.routers.append(
        Topology.Router(
          name: name, role: .rack, program: reader.choice("router", Topology.RouterProgram.self) ?? program,
          asNumber: asNumber(reader, topology), labels: labels(reader)))
      for (host, hostName) in elements(reader, "hosts", prefix: "\(name)-host", countMax: Fabric.hostsMax) ?? [] {
        readHost(host, hostName, rack: name, &topology, &names)
        host.finish()
      }
      reader.finish()
    }
  }

  private func readHosts(_ spec: FieldReader, _ topology: inout Topology, _ names: inout PlaceNames) {
    let racks = topology.racks.map(\.name)
    var hosts = elements(spec, "hosts", prefix: "host", countMax: Fabric.hostsMax) ?? []
    let isCount = spec.value("hosts")?.double != nil
    if hosts.isEmpty, topology.hosts.isEmpty, spec.value("hosts") == nil {
      let count = racks.count > 1 ? racks.count * 2 : 3
      hosts = (1...count).map { (FieldReader(JSONObject(), spec.path("hosts"), findings), "host\($0)") }
    }
    for (index, (reader, name)) in hosts.enumerated() {
      var rack = reader.string("rack")
      if let known = rack, !racks.contains(known) {
        names.unknown(known, reader.path("rack"), "rack", among: racks)
        rack = racks.first
      }
      if rack == nil {
        // Counted hosts fill the racks one after the other; a list says where each one stands.
        if racks.count > 1, !isCount, spec.value("hosts") != nil {
          findings.error(reader.path, nil, "says no rack, and there are \(racks.count)", fix: "add rack: \(racks[0])")
        }
        rack = racks.isEmpty ? nil : racks[index * racks.count / hosts.count]
      }
      readHost(reader, name, rack: rack ?? "", &topology, &names)
      reader.finish()
    }
    if topology.hosts.count > Fabric.hostsMax {
      findings.error(spec.path("hosts"), nil, "makes \(topology.hosts.count) hosts", fix: "a lab holds at most \(Fabric.hostsMax)")
    }
  }

  private func readHost(_ reader: FieldReader, _ name: String, rack: String, _ topology: inout Topology, _ names: inout PlaceNames) {
    _ = reader.value("name")
    guard names.add(name, "host", reader.value("name") == nil ? reader.path : reader.path("name")) else { return }
    topology.hosts.append(
      Topology.Host(name: name, rack: rack, asNumber: asNumber(reader, topology), labels: labels(reader)))
    topology.cables.append(Topology.Cable(a: name, b: rack))
  }

  private func readSpines(_ spec: FieldReader, _ program: Topology.RouterProgram, _ topology: inout Topology, _ names: inout PlaceNames) {
    let racks = topology.racks.map(\.name)
    var spines = elements(spec, "spines", prefix: "spine", countMax: Fabric.routersMax)
    // Racks that no link of the file joins hang on one spine.
    if spines == nil, racks.count > 1 {
      let isLinked = spec.array("links").contains { value, _ in
        let ends = value["between"]?.array?.compactMap(\.string) ?? []
        return ends.count == 2 && ends.allSatisfy(racks.contains)
      }
      if !isLinked { spines = [(FieldReader(JSONObject(), spec.path("spines"), findings), "spine")] }
    }
    for (reader, name) in spines ?? [] {
      _ = reader.value("name")
      guard names.add(name, "spine", reader.value("name") == nil ? reader.path : reader.path("name")) else { continue }
      topology.routers.append(
        Topology.Router(
          name: name, role: .spine, program: reader.choice("router", Topology.RouterProgram.self) ?? program,
          asNumber: asNumber(reader, topology), labels: labels(reader)))
      for rack in racks { topology.cables.append(Topology.Cable(a: rack, b: name)) }
      reader.finish()
    }
  }

  private func labels(_ reader: FieldReader) -> [String: String] {
    let labels = reader.stringMap("labels")
    for name in labels.keys where ["name", "role", "rack", "route-reflector"].contains(name) {
      findings.error(reader.path("labels").member(name), nil, "is a label that the lab sets itself", fix: "choose another name")
    }
    return labels
  }

  // MARK: Links and reflectors

  private func readLinks(_ spec: FieldReader, _ topology: inout Topology, _ names: PlaceNames) {
    for (value, path) in spec.array("links") {
      guard let reader = spec.reader(value, path) else { continue }
      let between = reader.array("between")
      let mtu = reader.integer("mtu", in: 1280...9216).map { UInt32($0) }
      reader.finish()
      let ends = between.compactMap { reader.string($0.value, $0.path) }
      guard ends.count == 2, between.count == 2 else {
        if between.count == ends.count {
          findings.error(reader.path("between"), nil, "names \(ends.count) ends; a link has two", fix: "write between: [rack1, rack2]")
        }
        continue
      }
      let isKnown = zip(ends, between).map { end, place in
        names.check(end, place.path, "host or router", among: topology.hosts.map(\.name) + topology.routers.map(\.name))
      }
      guard !isKnown.contains(false) else { continue }
      if ends[0] == ends[1] {
        findings.error(reader.path("between"), nil, "joins \(ends[0]) to itself")
      } else if let index = topology.cables.firstIndex(where: { $0.joins(ends[0], ends[1]) }) {
        if topology.cables[index].mtu != nil || mtu == nil {
          findings.error(
            path, nil, "is the link \(topology.cables[index].name), which is there already", fix: "remove it, or give it an mtu")
        }
        topology.cables[index].mtu = mtu
      } else if let host = topology.hosts.first(where: { ends.contains($0.name) }) {
        findings.error(
          path, nil, "gives \(host.name) a second link: a host has one, to its rack \(host.rack)",
          fix: "join routers, or change the host's rack")
      } else {
        topology.cables.append(Topology.Cable(a: ends[0], b: ends[1], mtu: mtu))
      }
    }
    let routerCables = topology.cables.filter { cable in topology.routers.contains { $0.name == cable.a } }
    if routerCables.count > Fabric.routerCablesMax {
      findings.error(
        spec.path("links"), nil, "and spines make \(routerCables.count) links between routers",
        fix: "a lab holds at most \(Fabric.routerCablesMax)")
    }
    for router in routerCables where Set([router.a, router.b]).count == 2 && routerCables.count(where: { $0.name == router.name }) > 1 {
      findings.error(spec.path("links"), nil, "makes the link \(router.name) twice")
    }
  }

  private func readReflector(_ value: JSONValue, _ path: JSONPath, _ topology: inout Topology, _ names: PlaceNames) {
    let object = value.string.map { JSONObject([.init("node", .string($0))]) } ?? value.object
    guard let object else { return findings.error(path, value, "is neither a name nor an object with node, clusterID and clients") }
    let reader = FieldReader(object, path, findings)
    let node = reader.string("node")
    let cluster = reader.string("clusterID")
    let clients = reader.selector("clients", mayBeGlobal: false) ?? "all()"
    reader.finish()
    guard let node else {
      if reader.value("node") == nil { findings.error(path, nil, "has no node", fix: "add node: with the name of a host or router") }
      return
    }
    if topology.arrangement != .reflectors {
      return findings.error(
        path, nil, "has no effect with arrangement \(topology.arrangement.rawValue)", fix: "write arrangement: reflectors, or leave it out")
    }
    guard
      names.check(
        node, value.string == nil ? reader.path("node") : path, "host or router",
        among: topology.hosts.map(\.name) + topology.routers.map(\.name))
    else { return }
    if topology.reflectors.contains(where: { $0.node == node }) {
      return findings.error(path, .string(node), "is a reflector already")
    }
    guard let clusterID = IPv4Address(cluster ?? "244.0.0.1") else {
      return findings.error(
        reader.path("clusterID"), .string(cluster ?? ""), "is not of the form of an IPv4 address", fix: "write it like 244.0.0.1")
    }
    topology.reflectors.append(Topology.Reflector(node: node, clusterID: clusterID, clients: clients))
  }

  // MARK: Workloads

  private func readPools(_ spec: FieldReader, _ topology: inout Topology) {
    guard spec.value("pools") != nil else { return }
    var pools: [IPPrefix] = []
    for (value, path) in spec.array("pools") {
      guard let pool = spec.prefix(value, path) else { continue }
      let lengthMax: UInt8 = pool.family == .v4 ? 26 : 122
      if pool.length > lengthMax {
        findings.error(path, value, "holds no whole block of addresses", fix: "give it a length of \(lengthMax) or less")
      }
      for (other, name) in [(Topology.underlay4, "the lab's underlay"), (Topology.underlay6, "the lab's underlay")]
        + pools.map({ ($0, "the pool") })
      where other.overlaps(pool) {
        findings.error(path, value, "overlaps \(name) \(other)", fix: "choose another network")
      }
      pools.append(pool)
    }
    if pools.isEmpty, findings.errors.isEmpty {
      findings.error(
        spec.path("pools"), nil, "names no pool", fix: "name one, or leave pools out for \(Topology.pool4) and \(Topology.pool6)")
    }
    topology.pools = pools
  }

  private func readNamespacesAndWorkloads(_ spec: FieldReader, _ topology: inout Topology, _ names: inout PlaceNames) {
    for (reader, name) in elements(spec, "namespaces", prefix: "namespace", countMax: 1000) ?? [] {
      let labels = reader.stringMap("labels")
      _ = reader.value("name")
      reader.finish()
      if let fault = NameRules.dnsLabelFault(name) {
        findings.error(reader.path("name"), .string(name), "cannot name a namespace: \(fault)")
      } else if topology.namespaces.contains(where: { $0.name == name }) {
        findings.error(reader.path("name"), .string(name), "is a namespace already")
      } else {
        topology.namespaces.append(Topology.Namespace(name: name, labels: labels))
      }
    }
    let hosts = topology.hosts.map(\.name)
    var workloads = elements(spec, "workloads", prefix: "pod", countMax: 1000)
    if workloads == nil { workloads = hosts.indices.map { (FieldReader(JSONObject(), spec.path("workloads"), findings), "pod\($0 + 1)") } }
    var holders: [IPAddress: String] = [:]
    for (index, (reader, name)) in (workloads ?? []).enumerated() {
      _ = reader.value("name")
      var host = reader.string("host") ?? (hosts.isEmpty ? "" : hosts[index % hosts.count])
      if reader.value("host") != nil, !names.check(host, reader.path("host"), "host", among: hosts) { host = hosts.first ?? "" }
      let namespace = reader.string("namespace") ?? "default"
      if let fault = NameRules.dnsLabelFault(namespace) {
        findings.error(reader.path("namespace"), .string(namespace), "cannot name a namespace: \(fault)")
      }
      let addresses = readAddresses(reader, name, topology, &holders)
      let labels = reader.stringMap("labels")
      reader.finish()
      guard names.add(name, "workload", reader.value("name") == nil ? reader.path : reader.path("name")) else { continue }
      topology.workloads.append(
        Topology.Workload(name: name, namespace: namespace, host: host, labels: labels, addresses: addresses))
      if !topology.namespaces.contains(where: { $0.name == namespace }) {
        topology.namespaces.append(Topology.Namespace(name: namespace))
      }
    }
  }

  private func readAddresses(
    _ reader: FieldReader, _ workload: String, _ topology: Topology, _ holders: inout [IPAddress: String]
  ) -> [IPAddress] {
    var given = reader.value("addresses")?.array != nil ? reader.array("addresses") : []
    if given.isEmpty, let value = reader.value("addresses") { given = [(value, reader.path("addresses"))] }
    var addresses: [IPAddress] = []
    for (value, path) in given {
      guard let text = reader.string(value, path) else { continue }
      guard let address = IPAddress(text) else {
        findings.error(path, value, "is not an IP address", fix: "write it like 10.65.0.7 or fd65::7")
        continue
      }
      if addresses.contains(where: { $0.family == address.family }) {
        findings.error(path, value, "is a second \(address.family) address", fix: "give at most one of each family")
      } else if !topology.pools.contains(where: { $0.contains(address) }) {
        findings.error(
          path, value, "lies in none of the pools", fix: "choose one from \(topology.pools.map(\.description).joined(separator: " or "))")
      } else if let holder = holders[address] {
        findings.error(path, value, "is the address of workload \(holder) already", fix: "choose another")
      } else {
        holders[address] = workload
        addresses.append(address)
      }
    }
    return addresses
  }

  private func readServices(_ spec: FieldReader, _ topology: inout Topology) {
    guard spec.value("services") != nil else { return }
    var services: [Service] = []
    for (value, path) in spec.array("services") {
      guard let text = spec.string(value, path) else { continue }
      guard let service = Service(text) else {
        findings.error(path, value, "is no service", fix: "write icmp, tcp/80 or udp/53")
        continue
      }
      if services.contains(service) { findings.error(path, value, "is listed already") } else { services.append(service) }
    }
    topology.services = services
  }

  private func readDocuments(_ spec: FieldReader, _ topology: inout Topology) {
    for (value, path) in spec.array("documents") {
      guard let name = spec.string(value, path) else { continue }
      let file = name.hasPrefix("/") ? name : "\(directory)/\(name)"
      guard Files.exists(file), !Files.isDirectory(file) else {
        findings.error(path, value, "is no file: there is no \(file)", fix: "name a file relative to this one")
        continue
      }
      do throws(DocumentErrors) {
        for document in try DocumentReader.read(path: file) {
          for error in ResourceCodec.review(document).errors { findings.error(path, value, "is not valid: \(error)") }
        }
      } catch {
        for error in error.errors { findings.error(path, value, "is not valid: \(error)") }
      }
      topology.documents.append(absolute(file))
    }
  }

  // MARK: The whole

  /// What can only be asked of a topology whose parts are right.
  private func checkWhole(_ spec: FieldReader, _ topology: Topology) {
    if let first = topology.routers.first {
      let reached = Fabric(topology).distances(from: first.name)
      for router in topology.routers where reached[router.name] == nil {
        findings.error(
          spec.path("links"), nil, "and spines leave \(router.name) without a way to \(first.name)",
          fix: "add a link: {between: [\(router.name), \(first.name)]}")
      }
    }
    guard topology.arrangement != .reflectors || !topology.reflectors.isEmpty else {
      findings.error(
        spec.path("arrangement"), .string("reflectors"), "needs reflectors",
        fix: "add reflectors: [\(topology.hosts.first?.name ?? "host1")]")
      return
    }
    let fabric = Fabric(topology)
    for speaker in fabric.speakers where topology.arrangement == .reflectors && fabric.sessions(of: speaker.name).isEmpty {
      findings.error(
        spec.path("reflectors"), nil, "leave \(speaker.name) without a session: no selector of clients matches it",
        fix: "its labels are \(speaker.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ", "))")
    }
    for (number, group) in Dictionary(grouping: fabric.speakers, by: \.asNumber).sorted(by: { $0.key < $1.key })
    where topology.arrangement == .asPerHost && group.count > 1 {
      findings.error(
        spec.path, nil,
        "gives AS \(number) to \(group.map(\.name).joined(separator: " and ")): each would refuse the other's routes as a loop",
        fix: "give each its own asNumber, or none")
    }
    let racks = Dictionary(grouping: topology.routers, by: { topology.asNumber(of: $0) })
    for (number, group) in racks.sorted(by: { $0.key < $1.key }) where topology.arrangement == .asPerRack && group.count > 1 {
      findings.error(
        spec.path, nil,
        "gives AS \(number) to \(group.map(\.name).joined(separator: " and ")): each would refuse the other's routes as a loop",
        fix: "give each its own asNumber, or none")
    }
  }
}

/// The names of everything with a network namespace: each is used once, fits into an interface's name, and is known when it is referred to.
struct PlaceNames {
  let findings: Findings
  private var kinds: [String: String] = [
    "etcd": "datastore server", "eth0": "host's interface", "lo": "loopback interface", "all": "word for everything",
  ]

  init(findings: Findings) { self.findings = findings }

  mutating func add(_ name: String, _ kind: String, _ path: JSONPath) -> Bool {
    // Linux: an interface's name has at most 15 octets, and a router's interfaces are called after what they lead to.
    let lengthMax = kind == "workload" ? 63 : 15
    if let fault = NameRules.dnsLabelFault(name) {
      findings.error(path, .string(name), "cannot name a \(kind): \(fault)")
    } else if name.utf8.count > lengthMax {
      findings.error(
        path, .string(name),
        "is too long for a \(kind): it has \(name.utf8.count) characters"
          + (kind == "workload" ? "" : ", and names an interface"), fix: "use at most \(lengthMax)")
    } else if let other = kinds[name] {
      findings.error(path, .string(name), "is the name of a \(other) already", fix: "choose another: places share one set of names")
    } else {
      kinds[name] = kind
      return true
    }
    return false
  }

  func unknown(_ name: String, _ path: JSONPath, _ kind: String, among known: [String]) {
    let hint = nearest(name, among: known).map { "did you mean \($0)?" } ?? "there are \(known.joined(separator: ", "))"
    findings.error(path, .string(name), "is no \(kind) of this topology", fix: known.isEmpty ? nil : hint)
  }
  func check(_ name: String, _ path: JSONPath, _ kind: String, among known: [String]) -> Bool {
    if known.contains(name) { return true }
    unknown(name, path, kind, among: known)
    return false
  }
}

extension Service {
  /// `icmp`, `tcp/80`, `udp/53`.
  public init?(_ text: String) {
    if text == "icmp" {
      self = .icmp
      return
    }
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let port = UInt16(parts[1]), port > 0 else { return nil }
    switch parts[0] {
    case "tcp": self = .tcp(port)
    case "udp": self = .udp(port)
    default: return nil
    }
  }
}

/// A path that means the same from any directory.
func absolute(_ path: String) -> String {
  guard !path.hasPrefix("/") else { return path }
  return "\(currentDirectory())/\(path)"
}

private func currentDirectory() -> String {
  var buffer = [CChar](repeating: 0, count: 4097)
  guard unsafe getcwd(&buffer, 4096) != nil else { return "." }
  return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
