import JSON
import Patches
import Testing

@Suite("Kubernetes' strategic merge patch")
struct StrategicMergeTests {
  private func merge(_ patch: String, _ target: String) throws -> String {
    try StrategicMerge.objects.apply(try JSONValue(parsing: patch), to: try JSONValue(parsing: target)).text()
  }

  @Test("Fields merge as in a merge patch, null removes")
  func fields() throws {
    #expect(
      try merge(#"{"spec":{"a":2,"b":null,"c":{"d":1}}}"#, #"{"spec":{"a":1,"b":1,"x":1}}"#) == #"{"spec":{"a":2,"x":1,"c":{"d":1}}}"#)
  }
  @Test("A list without a merge key is replaced: rules, networks, ports")
  func atomicLists() throws {
    #expect(try merge(#"{"spec":{"nets":["b"]}}"#, #"{"spec":{"nets":["a"]}}"#) == #"{"spec":{"nets":["b"]}}"#)
  }
  @Test("Finalizers are a set: those of the patch are added once")
  func sets() throws {
    #expect(
      try merge(#"{"metadata":{"finalizers":["b","c"]}}"#, #"{"metadata":{"finalizers":["a","b"]}}"#)
        == #"{"metadata":{"finalizers":["a","b","c"]}}"#)
  }
  @Test("Owner references merge by uid, conditions by type; new ones are appended")
  func byKey() throws {
    #expect(
      try merge(
        #"{"metadata":{"ownerReferences":[{"uid":"2","name":"new"},{"uid":"3"}]}}"#,
        #"{"metadata":{"ownerReferences":[{"uid":"1"},{"uid":"2","name":"old","kind":"K"}]}}"#)
        == #"{"metadata":{"ownerReferences":[{"uid":"1"},{"uid":"2","name":"new","kind":"K"},{"uid":"3"}]}}"#)
    #expect(
      try merge(#"{"status":{"conditions":[{"type":"B","$patch":"delete"}]}}"#, #"{"status":{"conditions":[{"type":"A"},{"type":"B"}]}}"#)
        == #"{"status":{"conditions":[{"type":"A"}]}}"#)
    #expect(throws: PatchProblem.self) { try merge(#"{"metadata":{"ownerReferences":[{"name":"x"}]}}"#, "{}") }
  }
  @Test("$patch: replace and delete; in a list it replaces the whole list")
  func directives() throws {
    #expect(try merge(#"{"spec":{"$patch":"replace","a":1}}"#, #"{"spec":{"b":1}}"#) == #"{"spec":{"a":1}}"#)
    #expect(try merge(#"{"spec":{"$patch":"delete"}}"#, #"{"spec":{"b":1}}"#) == #"{"spec":{}}"#)
    #expect(
      try merge(#"{"status":{"conditions":[{"type":"C"},{"$patch":"replace"}]}}"#, #"{"status":{"conditions":[{"type":"A"}]}}"#)
        == #"{"status":{"conditions":[{"type":"C"}]}}"#)
    #expect(throws: PatchProblem.self) { try merge(#"{"spec":{"$patch":"spin"}}"#, "{}") }
  }
  @Test("$retainKeys clears what it does not name")
  func retainKeys() throws {
    #expect(try merge(#"{"spec":{"$retainKeys":["a"],"a":1}}"#, #"{"spec":{"a":0,"b":1}}"#) == #"{"spec":{"a":1}}"#)
  }
  @Test("$deleteFromPrimitiveList takes values out, $setElementOrder orders what it names")
  func primitiveLists() throws {
    #expect(
      try merge(#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"]}}"#, #"{"metadata":{"finalizers":["a","b"]}}"#)
        == #"{"metadata":{"finalizers":["b"]}}"#)
    #expect(
      try merge(
        #"{"metadata":{"$setElementOrder/finalizers":["c","a"],"finalizers":["c"]}}"#, #"{"metadata":{"finalizers":["a","b"]}}"#)
        == #"{"metadata":{"finalizers":["c","b","a"]}}"#)
    #expect(
      try merge(
        #"{"status":{"$setElementOrder/conditions":[{"type":"B"},{"type":"A"}],"conditions":[{"type":"B","status":"True"}]}}"#,
        #"{"status":{"conditions":[{"type":"A"}]}}"#) == #"{"status":{"conditions":[{"type":"B","status":"True"},{"type":"A"}]}}"#)
  }
}
