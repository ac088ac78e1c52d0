//! `VpsService`: VPSes.

mod messages;

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;

use futures::{Stream, StreamExt};
use insula_api::access::Extra;
use insula_api::convert::{duration, parse, parse_all, parse_optional};
use insula_api::{ApiError, v1};
use insula_engine::{Boot, CloneVps, FeatureChange, VpsView};
use insula_types::{Features, VpsId, VpsName};
use tonic::{Request, Response, Status, Streaming};

use crate::services::caller::object;
use crate::services::filter::Filter;
use crate::services::page::{Page, Size};
use crate::services::session::{ConsoleStep, ExecStep, start_first};
use crate::services::{Caller, Shared, session, vps};
use crate::status::status;

use messages::{create_request, update_request};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::vps_service_server::VpsService for Shared {
    type ExecVpsStream = Pin<Box<dyn Stream<Item = Result<v1::ExecVpsResponse, Status>> + Send>>;
    type StartExecStream = Pin<Box<dyn Stream<Item = Result<v1::StartExecResponse, Status>> + Send>>;
    type StartConsoleStream = Pin<Box<dyn Stream<Item = Result<v1::StartConsoleResponse, Status>> + Send>>;
    type AttachConsoleStream = Pin<Box<dyn Stream<Item = Result<v1::AttachConsoleResponse, Status>> + Send>>;

    async fn create_vps(&self, request: Request<v1::CreateVpsRequest>) -> Answer<v1::CreateVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let create = create_request(request)?;
            if let Some(own) = &create.features {
                caller.may_open(&Features::default(), own)?;
            }
            engine.create_vps(&asked, create).await.map_err(status)
        })
        .await
    }

    async fn get_vps(&self, request: Request<v1::GetVpsRequest>) -> Answer<v1::GetVpsResponse> {
        let (caller, name) = (Caller::of(&request)?, &request.get_ref().vps);
        let handle = caller.find(self.engine.vps(name), name)?;
        Ok(Response::new(v1::GetVpsResponse { vps: Some(vps(&handle.view())) }))
    }

    async fn list_vpses(&self, request: Request<v1::ListVpsesRequest>) -> Answer<v1::ListVpsesResponse> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = Filter::parse(&request.filter)?;
        let size = Size { usual: 1000, most: 10_000 };
        let page = Page::<Place>::read(request.page_size, &request.page_token, size)?;
        let mut views = self.engine.vpses();
        if request.show_deleted {
            views.extend(self.engine.deleted_vpses());
            views.sort_by_key(Place::of);
        }
        views.retain(|view| caller.sees(&view.spec) && filter.fits(view));
        let begin =
            page.after.as_ref().map_or(0, |after| views.partition_point(|view| Place::of(view) <= *after));
        let mut views: Vec<_> = views.into_iter().skip(begin).take(page.count() as usize).collect();
        let next_page_token = page.cut(&mut views, Place::of);
        Ok(Response::new(v1::ListVpsesResponse { vpses: views.iter().map(vps).collect(), next_page_token }))
    }

    async fn update_vps(&self, request: Request<v1::UpdateVpsRequest>) -> Answer<v1::UpdateVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let update = update_request(request)?;
            if let Some(FeatureChange::Own(own)) = &update.features {
                caller.may_open(&handle.spec().features, own)?;
            }
            engine.update_vps(&asked, &handle, update).await.map_err(status)
        })
        .await
    }

    async fn rename_vps(&self, request: Request<v1::RenameVpsRequest>) -> Answer<v1::RenameVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let name = parse("new_name", &request.new_name)?;
            engine.rename_vps(&asked, &handle, name).await.map_err(status)
        })
        .await
    }

    async fn delete_vps(&self, request: Request<v1::DeleteVpsRequest>) -> Answer<v1::DeleteVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let found = engine.vps_or_deleted(&request.vps);
            let handle = caller.find(found, &request.vps)?;
            engine.delete_vps(&asked, &handle, request.force, request.now).await.map_err(status)
        })
        .await
    }

    async fn undelete_vps(
        &self,
        request: Request<v1::UndeleteVpsRequest>,
    ) -> Answer<v1::UndeleteVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.deleted_vps(&request.vps), &request.vps)?;
            let name = parse_optional("new_name", &request.new_name)?;
            engine.undelete_vps(&asked, &handle, name).await.map_err(status)
        })
        .await
    }

    async fn clone_vps(&self, request: Request<v1::CloneVpsRequest>) -> Answer<v1::CloneVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let clone = CloneVps {
                name: parse("name", &request.name)?,
                snapshot: parse_optional("snapshot", &request.snapshot)?,
                hostname: Some(request.hostname).filter(|name| !name.is_empty()),
                addresses: parse_all("ip_addresses", &request.ip_addresses)?,
                boot: request.start.then_some(Boot { wait_ready: request.wait_ready }),
            };
            engine.clone_vps(&asked, &handle, clone).await.map_err(status)
        })
        .await
    }

    async fn rebuild_vps(&self, request: Request<v1::RebuildVpsRequest>) -> Answer<v1::RebuildVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let image = parse("image", &request.image)?;
            let boot = request.start.then_some(Boot { wait_ready: request.wait_ready });
            engine.rebuild_vps(&asked, &handle, image, request.force, boot).await.map_err(status)
        })
        .await
    }

    async fn start_vps(&self, request: Request<v1::StartVpsRequest>) -> Answer<v1::StartVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let v1::StartVpsRequest { wait_ready, override_suspension, .. } = request;
            if override_suspension {
                caller.may_also(Extra::OverrideSuspension, object(&handle.spec())).map_err(ApiError::from)?;
            }
            engine.start_vps(&asked, &handle, wait_ready, override_suspension).await.map_err(status)
        })
        .await
    }

    async fn stop_vps(&self, request: Request<v1::StopVpsRequest>) -> Answer<v1::StopVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let timeout = request.timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
            engine.stop_vps(&asked, &handle, request.force, timeout).await.map_err(status)
        })
        .await
    }

    async fn restart_vps(&self, request: Request<v1::RestartVpsRequest>) -> Answer<v1::RestartVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let timeout = request.timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
            let v1::RestartVpsRequest { force, wait_ready, .. } = request;
            engine.restart_vps(&asked, &handle, force, timeout, wait_ready).await.map_err(status)
        })
        .await
    }

    async fn pause_vps(&self, request: Request<v1::PauseVpsRequest>) -> Answer<v1::PauseVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            engine.pause_vps(&asked, &handle).await.map_err(status)
        })
        .await
    }

    async fn resume_vps(&self, request: Request<v1::ResumeVpsRequest>) -> Answer<v1::ResumeVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            engine.resume_vps(&asked, &handle).await.map_err(status)
        })
        .await
    }

    async fn suspend_vps(&self, request: Request<v1::SuspendVpsRequest>) -> Answer<v1::SuspendVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let timeout = request.timeout.map(|timeout| duration("timeout", timeout)).transpose()?;
            let v1::SuspendVpsRequest { reason, force, .. } = request;
            engine.suspend_vps(&asked, &handle, reason, force, timeout).await.map_err(status)
        })
        .await
    }

    async fn unsuspend_vps(
        &self,
        request: Request<v1::UnsuspendVpsRequest>,
    ) -> Answer<v1::UnsuspendVpsResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            engine.unsuspend_vps(&asked, &handle).await.map_err(status)
        })
        .await
    }

    async fn set_vps_password(
        &self,
        request: Request<v1::SetVpsPasswordRequest>,
    ) -> Answer<v1::SetVpsPasswordResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            let user = Some(request.user).filter(|user| !user.is_empty());
            let user = user.unwrap_or_else(|| "root".to_owned());
            engine.set_password(&asked, &handle, user, &request.password).await.map_err(status)
        })
        .await
    }

    async fn change_vps_ssh_keys(
        &self,
        request: Request<v1::ChangeVpsSshKeysRequest>,
    ) -> Answer<v1::ChangeVpsSshKeysResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let handle = caller.find(engine.vps(&request.vps), &request.vps)?;
            engine.change_ssh_keys(&asked, &handle, &request.add, &request.remove).await.map_err(status)
        })
        .await
    }

    async fn exec_vps(&self, request: Request<Streaming<v1::ExecVpsRequest>>) -> Answer<Self::ExecVpsStream> {
        let caller = Caller::of(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.request);
        let Some(ExecStep::Start(start)) = first else { return Err(start_first()) };
        let steps = requests.map(|message| message.map(|message| message.request));
        let stream = session::exec(&self.engine, &caller, start, steps, self.ended()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn start_exec(&self, request: Request<v1::StartExecRequest>) -> Answer<Self::StartExecStream> {
        self.open_exec(request).await
    }

    async fn send_exec_input(
        &self,
        request: Request<v1::SendExecInputRequest>,
    ) -> Answer<v1::SendExecInputResponse> {
        self.give_exec_input(request).await
    }

    async fn attach_console(
        &self,
        request: Request<Streaming<v1::AttachConsoleRequest>>,
    ) -> Answer<Self::AttachConsoleStream> {
        let caller = Caller::of(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.request);
        let Some(ConsoleStep::Start(start)) = first else { return Err(start_first()) };
        let steps = requests.map(|message| message.map(|message| message.request));
        let stream = session::console(&self.engine, &caller, start, steps, self.ended()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn start_console(
        &self,
        request: Request<v1::StartConsoleRequest>,
    ) -> Answer<Self::StartConsoleStream> {
        self.open_console(request).await
    }

    async fn send_console_input(
        &self,
        request: Request<v1::SendConsoleInputRequest>,
    ) -> Answer<v1::SendConsoleInputResponse> {
        self.give_console_input(request).await
    }

    async fn get_console_log(
        &self,
        request: Request<v1::GetConsoleLogRequest>,
    ) -> Answer<v1::GetConsoleLogResponse> {
        let (caller, name) = (Caller::of(&request)?, &request.get_ref().vps);
        let handle = caller.find(self.engine.vps(name), name)?;
        let log = self.engine.console_log(&handle).await.map_err(status)?;
        Ok(Response::new(v1::GetConsoleLogResponse { log }))
    }
}

/// Where a page of VPSes ends: by name and then by id, because several VPSes in the trash may have
/// the same name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    name: VpsName,
    id: VpsId,
}

impl Place {
    fn of(view: &VpsView) -> Self {
        Self { name: view.spec.name.clone(), id: view.spec.id }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.name, self.id)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let read = || {
            let (name, id) = text.split_once('~')?;
            Some(Self { name: name.parse().ok()?, id: id.parse().ok()? })
        };
        read().ok_or("it is not a page token of this list")
    }
}
