//! Bodies that are hostile, broken or odd, over HTTP: each has its status, and none keeps the next event from being taken.

use crate::hands::payload_source;
use crate::hostile_bodies::{Expect, all};
use crate::town::{event, on_both};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_body_has_its_status_and_the_next_event_is_taken() {
    on_both(async |plan| {
        let town = plan.payload_only(&payload_source()).open().await;
        let mut wrong = Vec::new();
        let bodies = all();

        for hostile in &bodies {
            let wanted = match hostile.expect {
                Expect::Recorded(_) => 200,
                Expect::Unknown => 202,
                Expect::Malformed => 400,
            };
            let (status, answer) = town.post(hostile.content_type, hostile.body.clone()).await;
            if status != wanted {
                wrong.push(format!("{}: {status} and not {wanted}: {answer}", hostile.name));
            }
        }
        let (status, answer) = town.post_event(&event("W1", "amina", town.entra().now())).await;

        assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), bodies.len());
        assert_eq!((status, answer["status"].as_str()), (200, Some("recorded")));
        town.until_holds("W1", "amina").await;
        println!("{} hostile bodies, each with its status", bodies.len());
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_password_nothing_is_taken() {
    on_both(async |plan| {
        let town = plan.payload_only(&payload_source()).open().await;
        let url = format!("http://{}/intake/uem", town.service.intake);
        let body = event("W1", "amina", town.entra().now()).to_string();

        for password in [None, Some("wrong")] {
            let mut request = town.client.post(&url).header("content-type", "application/json").body(body.clone());
            if let Some(password) = password {
                request = request.basic_auth("handover", Some(password));
            }
            assert_eq!(request.send().await.unwrap().status(), 401);
        }

        assert_eq!(town.devices().await.len(), 0);
        town.close().await;
    })
    .await;
}
