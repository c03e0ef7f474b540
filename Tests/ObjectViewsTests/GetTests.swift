/// What `margay get` prints.
import Datastore
import DatastoreMemory
import Glibc
import JSON
import ObjectViews
import Names
import OutputForms
import Resources
import Sockets
import Tables
import Testing

/// Runs a request as the command does, without its process.
private func get(
  _ words: String..., namespace: String? = nil, labels: String? = nil, form: ObjectPrinter.Form = .table(.init()), export: Bool = false,
  width: Int? = nil, from datastore: MemoryDatastore
) async throws -> (text: String, missing: [ResourceKey]) {
  let request = try ObjectRequest(words: words)
  var printer = ObjectPrinter(form)
  printer.isSingle = request.parts.count == 1 && request.parts[0].names?.count == 1
  printer.hasSeveralKinds = request.parts.count > 1
  printer.isExport = export
  printer.widthMax = width
  printer.facts = try await ClusterFacts.read(datastore, for: Set(request.parts.map(\.kind)))
  printer.facts.now = UTCTime(unixSeconds: 1_767_400_000)
  let reader = ObjectReader(datastore, namespace: namespace, labels: try labels.map { text throws in try LabelFilter(text) })
  var text = ""
  var missing: [ResourceKey] = []
  for part in request.parts {
    missing += try await reader.read(part) { objects in if !objects.isEmpty { text += try printer.text(part.kind, objects) } }
  }
  return (text + (try printer.finish()), missing)
}
private func shape(_ change: (inout ObjectTable.Shape) throws -> Void) rethrows -> ObjectPrinter.Form {
  var shape = ObjectTable.Shape()
  try change(&shape)
  return .table(shape)
}

@Suite("margay get")
struct GetTests {
  @Test("The tables of a small cluster")
  func tables() async throws {
    let datastore = try await shop()
    var text = ""
    for word in ["tiers", "nodes", "pools", "networkpolicies", "wep", "bgppeers"] {
      for isWide in [false, true] {
        text += "$ margay get \(word) -A\(isWide ? " -o wide" : "")\n"
        text += try await get(word, form: shape { ($0.isWide, $0.showsNamespace) = (isWide, true) }, from: datastore).text + "\n"
      }
    }
    text += "$ margay get np,pools -A\n" + (try await get("np,pools", form: shape { $0.showsNamespace = true }, from: datastore).text)
    let path = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Goldens/ObjectViews/tables.txt"
    if unsafe getenv("UPDATE_GOLDENS") != nil { try Files.writeAtomically(Array(text.utf8), to: path) }
    #expect(try Files.readText(path) == text)
  }

  @Test("One object by name is the document; several are a list; what a file of YAML gives is the same again as JSON")
  func documents() async throws {
    let datastore = try await shop()
    let one = try JSONValue(parsing: Array(try await get("tier", "security", form: .json, from: datastore).text.utf8))
    #expect(one["kind"] == "Tier" && one["metadata"]?["resourceVersion"]?.string != nil)
    let list = try JSONValue(parsing: Array(try await get("tiers", form: .json, from: datastore).text.utf8))
    #expect(list["kind"] == "TierList" && list["items"]?.array?.count == 2)
    let mixed = try JSONValue(parsing: Array(try await get("tier/security", "pool/blue", form: .json, from: datastore).text.utf8))
    #expect(mixed["kind"] == "List" && mixed["items"]?.array?.map { $0["kind"]! } == ["Tier", "IPPool"])
    let exported = try JSONValue(parsing: Array(try await get("tier", "security", form: .json, export: true, from: datastore).text.utf8))
    #expect(exported == ["kind": "Tier", "apiVersion": "projectcalico.org/v3", "metadata": ["name": "security"], "spec": ["order": 100]])
    for form in [ObjectPrinter.Form.json, .yaml] {
      let none = try await get("felixconfigurations", form: form, from: datastore).text
      #expect(none.contains("items") && none.hasSuffix(form.isJSON ? "]\n}\n" : "items: []\n"))
    }
  }

  @Test("Names, templates and columns of one's own")
  func forms() async throws {
    let datastore = try await shop()
    #expect(try await get("tiers", form: .name, from: datastore).text == "tier/default\ntier/security\n")
    let template = try GoTemplate("{{range .}}{{range .Items}}{{.Name}}={{.Spec.CIDR}} {{end}}{{end}}")
    #expect(try await get("pools", form: .goTemplate(template), from: datastore).text == "blue=10.65.0.0/24 six=fd00:65::/64 \n")
    #expect(
      try await get("pools", form: .jsonPath(PathTemplate("{.items[*].spec.cidr}")), from: datastore).text == "10.65.0.0/24 fd00:65::/64\n")
    let columns = try shape { $0.custom = try CustomColumns("NAME,used,COLOR:.metadata.labels.color") }
    #expect(
      try await get("pools", form: columns, from: datastore).text
        == "NAME  USED        COLOR\nblue  3/256 (1%)  blue\nsix   0           <none>\n")
    let unknown = #expect(throws: ObjectTable.Problem.self) {
      try ObjectTable(
        .tier,
        {
          var s = ObjectTable.Shape(); s.custom = try! CustomColumns("CIDR"); return s
        }())
    }
    #expect(unknown!.description.hasPrefix("Tier has no column CIDR; it has NAME, ORDER, DEFAULTACTION, POLICIES; or give a path"))
  }

  @Test("Objects are chosen by namespace, name and labels; what does not exist is told")
  func choice() async throws {
    let datastore = try await shop()
    #expect(try await get("np", namespace: "default", form: .name, from: datastore).text == "networkpolicy/db\n")
    #expect(try await get("np", labels: "app in (web)", form: .name, from: datastore).text == "networkpolicy/web\n")
    #expect(try await get("np", labels: "has(app) && app != 'web'", form: .name, from: datastore).text == "networkpolicy/db\n")
    let some = try await get("np", "web", "nosuch", namespace: "shop", form: .name, from: datastore)
    #expect(some.text == "networkpolicy/web\n" && some.missing.map(\.description) == ["NetworkPolicy shop/nosuch"])
    // Without a namespace a name is looked for in all of them.
    let anywhere = try await get("np/db", "np/nosuch", form: .name, from: datastore)
    #expect(anywhere.text == "networkpolicy/db\n" && anywhere.missing.map(\.name) == ["nosuch"])
  }

  @Test(
    "Words that ask for nothing are told",
    arguments: [
      ([], "say what to show"), (["pods"], "\"pods\" is no kind of object; one of bgpconfiguration"),
      (["np/web", "db"], "\"db\" is not KIND/NAME"),
      (["np,"], "\"\" is no kind"), (["np/"], "\"np/\" is not KIND/NAME"),
    ] as [([String], String)])
  func mistakes(words: [String], expected: String) {
    let problem = #expect(throws: ObjectRequest.Problem.self) { try ObjectRequest(words: words) }
    #expect(problem!.description.hasPrefix(expected))
  }

  @Test("A table comes in portions under one line of headings, and its cells are cut only where a width is given")
  func portions() async throws {
    let datastore = MemoryDatastore()
    for number in 1...1200 {
      let key = ResourceKey(.globalNetworkSet, name: "set-\(number)")
      let text =
        #"{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"\#(key.name)"},"spec":{"nets":["10.0.0.0/8","192.168.0.0/16","172.16.0.0/12"]}}"#
      _ = try await datastore.transact(if: [], then: [.put(key.path, Array(text.utf8))])
    }
    let lines = try await get("gns", from: datastore).text.split(separator: "\n")
    #expect(lines.count == 1201 && lines.count { $0.hasPrefix("NAME") } == 1)
    #expect(lines[7].hasSuffix("10.0.0.0/8,192.168.0.0/16,172.16.0.0/12"))
    let cut = try await get("gns", width: 40, from: datastore).text.split(separator: "\n")
    #expect(cut.allSatisfy { $0.count <= 40 } && cut[1].hasSuffix("…"))
    // A list printed in portions is one document.
    let list = try JSONValue(parsing: Array(try await get("gns", form: .json, from: datastore).text.utf8))
    #expect(list["items"]?.array?.count == 1200)
  }

  @Test("What is stored and would not be accepted, with what it costs; --invalid leaves the rest out")
  func invalid() async throws {
    let datastore = try await shop()
    var found: [ObjectFaults] = []
    for kind in Kind.allCases {
      _ = try await ObjectReader(datastore, namespace: nil).read(ObjectRequest.Part(kind)) { found += $0.compactMap { ObjectFaults($0) } }
    }
    let text = found.map { $0.text(Palette(coloured: false)) }.joined()
    #expect(
      text == """
        NetworkPolicy shop/broken
          it is not JSON: 1:2: the text ends where a member name in quotes is expected
            agents keep the last version they could read; one that starts anew denies every endpoint of namespace shop
        NetworkPolicy shop/web
          spec.ingress[1].action: "Permit" is none of Allow, Deny, Log, Pass
            ingress rule 2 denies everything at its place

        """)
    #expect(found[1].json["faults"]?.array?[0]["path"] == "spec.ingress[1].action")
  }
}

@Suite("margay get --watch")
struct WatchTests {
  private func stored(_ name: String, _ labels: [String: String], revision: Int64, namespace: String = "shop") throws -> FeedEvent {
    let members = labels.map { #""\#($0.key)":"\#($0.value)""# }.joined(separator: ",")
    let key = ResourceKey(.networkSet, namespace: namespace, name: name)
    let text =
      #"{"kind":"NetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"\#(name)","namespace":"\#(namespace)","labels":{\#(members)}},"spec":{"nets":["10.0.0.0/8"]}}"#
    let document = try JSONValue(parsing: Array(text.utf8))
    let object = ShownObject(
      key, KeyValue(key: key.path, value: document.bytes, createRevision: .init(rawValue: 1), modRevision: .init(rawValue: revision)))
    return .resource(
      key,
      StoredResource(resource: try #require(object.resource), document: try #require(object.document), revision: .init(rawValue: revision)))
  }
  private func told(_ step: ObjectWatch.Step) -> [String] { step.changes.map { "\($0.change.rawValue) \($0.object.key.qualifiedName)" } }

  @Test("An object that gets the labels asked for is added, one that loses them is deleted, others are no news")
  func labels() throws {
    var watch = ObjectWatch(
      try ObjectRequest(words: ["netsets"]), namespace: "shop", labels: try LabelFilter("app=web"), changesOnly: false)
    let first = watch.take([
      try stored("a", ["app": "web"], revision: 1), try stored("b", ["app": "db"], revision: 2),
      try stored("c", ["app": "web"], revision: 3, namespace: "other"),
      .inSync, .revision(.init(rawValue: 3)),
    ])
    #expect(told(first) == ["ADDED shop/a"] && first.isInSync)
    #expect(told(watch.take([try stored("b", ["app": "web"], revision: 4)])) == ["ADDED shop/b"])
    #expect(told(watch.take([try stored("a", ["app": "web", "x": "1"], revision: 5)])) == ["MODIFIED shop/a"])
    #expect(told(watch.take([try stored("a", ["app": "no"], revision: 6)])) == ["DELETED shop/a"])
    #expect(told(watch.take([.resource(ResourceKey(.networkSet, namespace: "shop", name: "a"), nil)])) == [])
    #expect(told(watch.take([.resource(ResourceKey(.networkSet, namespace: "shop", name: "b"), nil)])) == ["DELETED shop/b"])
    #expect(watch.take([.connection(problem: "gone")]).connection == .some("gone"))
  }

  @Test("--watch-only begins with what happens next, and knows what there was")
  func only() throws {
    var watch = ObjectWatch(try ObjectRequest(words: ["netsets"]), namespace: nil, labels: nil, changesOnly: true)
    #expect(told(watch.take([try stored("b", [:], revision: 1)])) == [])
    #expect(told(watch.take([try stored("a", [:], revision: 1), .inSync])) == [])
    #expect(told(watch.take([try stored("a", ["x": "1"], revision: 2)])) == ["MODIFIED shop/a"])
  }

  @Test("Changes are a table with the event in front, or a stream of documents")
  func printing() throws {
    var watch = ObjectWatch(try ObjectRequest(words: ["netsets"]), namespace: nil, labels: nil, changesOnly: false)
    func printer(_ form: ObjectPrinter.Form) -> ChangePrinter {
      ChangePrinter(form: form, several: false, export: true, palette: Palette(coloured: false), widthMax: nil, headings: true)
    }
    var (table, json, yaml) = (printer(.table(.init())), printer(.json), printer(.yaml))
    var text = ""
    for events in [[try stored("a", [:], revision: 1), .inSync], [.resource(ResourceKey(.networkSet, namespace: "shop", name: "a"), nil)]] {
      let step = watch.take(events)
      text += try table.text(step.changes) + json.text(step.changes) + yaml.text(step.changes)
    }
    let object =
      #"{"kind":"NetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"a","namespace":"shop","labels":{}},"spec":{"nets":["10.0.0.0/8"]}}"#
    let lines = text.split(separator: "\n")
    #expect(lines.prefix(4) == ["EVENT  NAME  NETS", "ADDED  a     10.0.0.0/8", "{\"type\":\"ADDED\",\"object\":\(object)}", "---"])
    #expect(text.contains("DELETED  a     10.0.0.0/8\n{\"type\":\"DELETED\",\"object\":\(object)}\n---\ntype: DELETED\n"))
  }
}
